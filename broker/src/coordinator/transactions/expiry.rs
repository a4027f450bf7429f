//! What happens by itself: markers that a restart has interrupted, transactions that take too long, ids that nobody uses.

use super::{Change, Effects, Now, Task, Transactions, transaction::State};
use std::{sync::Arc, time::Duration};

impl Transactions {
    /// The log has been read to its end: what was decided goes on, and the clocks run.
    pub(super) fn begin(&mut self, now: Now, effects: &mut Effects) {
        let ending = self.by_id.iter().filter(|(_, transaction)| transaction.is_ending());
        effects.tasks.extend(ending.map(|(id, transaction)| transaction.markers(id)));
        if self.by_id.values().any(|transaction| transaction.state == State::Ongoing) {
            self.look_for_timed_out(now);
        }
        self.next_expiry_ms = Some(after(now, self.settings.expiry_interval));
    }

    /// A transaction goes on, so there may be one that takes too long.
    pub(super) fn look_for_timed_out(&mut self, now: Now) {
        self.next_abort_ms.get_or_insert(after(now, self.settings.abort_interval));
    }

    /// Does what is due first. False where nothing is.
    pub(super) fn do_next(&mut self, now: Now, effects: &mut Effects) -> bool {
        if let Some(id) = self.timed_out.pop_front() {
            if !self.fence(&id, None, now, effects) {
                effects.tasks.push(Task::DrawProducerId { id });
            }
            return true;
        }
        let due = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= now.monotonic_ms);
        if due(self.next_abort_ms) {
            self.find_timed_out(now);
            return true;
        }
        if due(self.next_expiry_ms) {
            self.expire_ids(now, effects);
            return true;
        }
        false
    }

    fn find_timed_out(&mut self, now: Now) {
        self.next_abort_ms = None;
        let ongoing: Vec<_> = self.by_id.iter().filter(|(_, one)| one.state == State::Ongoing).collect();
        let any_left = !ongoing.is_empty();
        let over = ongoing
            .into_iter()
            .filter(|(_, one)| one.start_ms.saturating_add(i64::from(one.timeout_ms)) < now.wall_ms);
        self.timed_out = over.map(|(id, _)| id.clone()).collect();
        if any_left {
            self.look_for_timed_out(now);
        }
    }

    /// Aborts a transaction that has taken too long, now that there is a producer id for those who come after.
    pub fn abort_timed_out(&mut self, id: &Arc<str>, fresh: i64, now: Now, effects: &mut Effects) {
        self.fence(id, Some(fresh), now, effects);
    }

    /// Forgets ids that nobody has used for `transactional.id.expiration.ms`.
    fn expire_ids(&mut self, now: Now, effects: &mut Effects) {
        self.next_expiry_ms = Some(after(now, self.settings.expiry_interval));
        let expiration_ms = i64::try_from(self.settings.id_expiration.as_millis()).unwrap_or(i64::MAX);
        let latest = now.wall_ms.saturating_sub(expiration_ms);
        let unused = self.by_id.iter().filter(|(_, one)| one.state.is_at_rest() && one.updated_ms <= latest);
        effects.records.extend(unused.map(|(id, _)| Change { id: id.clone(), to: None }));
    }
}

fn after(now: Now, interval: Duration) -> u64 {
    now.monotonic_ms.saturating_add(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX))
}
