//! Deadlines, in order. Each timer has a name, and is set anew under it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What a timer is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The end of a group's join phase.
    Join(Arc<str>),
    /// The end of a group's sync phase.
    Sync(Arc<str>),
    /// The session of a member, or the patience with one that was given its id.
    Session(Arc<str>, Arc<str>),
    /// The time in which a member of a consumer group is to give partitions up.
    Revocation(Arc<str>, Arc<str>),
    /// The time in which a member of the classic protocol is to join a consumer group again.
    Rejoin(Arc<str>, Arc<str>),
    /// The time in which a member of the classic protocol is to ask a consumer group for its assignment.
    MemberSync(Arc<str>, Arc<str>),
    /// The next look for expired offsets.
    Retention,
}

/// What happens at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// The join phase ends with those who are there.
    CompleteJoin,
    /// The first members of an empty group have waited for others, and may go on to.
    InitialDelay {
        /// How long they have waited since the last look.
        delay_ms: u64,
        /// How much longer they may.
        remaining_ms: u64,
    },
    /// Members that haven't sent their SyncGroup in this generation go.
    PendingSync {
        /// The generation that the timer was set in.
        generation: i32,
    },
    /// A session is over.
    SessionOver,
    /// Partitions were not given up in time.
    RevocationOverdue {
        /// The epoch of the member that the timer was set in.
        epoch: i32,
    },
    /// A member has not done in time what it was to do.
    MemberOverdue,
    /// It's time to look for expired offsets.
    Retention,
}

/// All timers of the groups of a partition.
#[derive(Default)]
pub(super) struct Timers {
    set: BTreeMap<Timer, (u64, Alarm)>,
    order: BTreeSet<(u64, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, deadline_ms: u64, alarm: Alarm) {
        self.cancel(&timer);
        self.order.insert((deadline_ms, timer.clone()));
        self.set.insert(timer, (deadline_ms, alarm));
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, (deadline_ms, _))) = self.set.remove_entry(timer) {
            self.order.remove(&(deadline_ms, timer));
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.set.contains_key(timer)
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.order.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes the first timer that is due.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(Timer, Alarm)> {
        if self.next_deadline_ms()? > now_ms {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        let (_, alarm) = self.set.remove(&timer).expect("every timer in the order is set");
        Some((timer, alarm))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.set.len(), self.order.len());
        self.set.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_due_in_order_and_a_timer_set_anew_has_one_deadline() {
        let mut timers = Timers::default();
        let join = |name: &str| Timer::Join(name.into());
        timers.set(join("a"), 10, Alarm::CompleteJoin);
        timers.set(join("b"), 5, Alarm::CompleteJoin);
        timers.set(join("b"), 20, Alarm::CompleteJoin);
        timers.set(join("c"), 7, Alarm::CompleteJoin);
        timers.cancel(&join("c"));
        assert_eq!(timers.next_deadline_ms(), Some(10));
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(30).map(|(timer, _)| timer), Some(join("a")));
        assert_eq!(timers.pop_due(30).map(|(timer, _)| timer), Some(join("b")));
        assert_eq!(timers.len(), 0);
    }
}
