//! Incremental fetch sessions (KIP-227): a consumer names its partitions once, then only what changes; the broker answers only
//! partitions that have news.

use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use thalweg_segment::Offset;
use tokio::time::Instant;
use uuid::Uuid;

/// Asks for no session, and ends the one that it names.
pub const FINAL_EPOCH: i32 = -1;
/// Asks for a new session.
pub const INITIAL_EPOCH: i32 = 0;
/// A session may be evicted once it has not been used for this long (`min.incremental.fetch.session.eviction.ms`).
const EVICT_AFTER: Duration = Duration::from_secs(120);
/// Partitions that all sessions may remember together; beyond that fetches go without a session.
const MAX_PARTITIONS: usize = 200_000;

/// One partition that a consumer fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of its topic; empty where the request named it by id.
    pub topic: String,
    /// Id of its topic; nil where the request named it by name.
    pub topic_id: Uuid,
    /// Its index.
    pub partition: i32,
    /// The leader epoch that the consumer knows, or -1.
    pub current_leader_epoch: i32,
    /// Where to read.
    pub offset: Offset,
    /// The epoch of the record before that, or -1.
    pub last_fetched_epoch: i32,
    /// Most bytes to return.
    pub max_bytes: i32,
}

type Key = (String, Uuid, i32);

impl Wanted {
    fn key(&self) -> Key {
        (self.topic.clone(), self.topic_id, self.partition)
    }
}

/// What a consumer was last told of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

#[derive(Default)]
struct Session {
    epoch: i32,
    by_ids: bool,
    /// In the order in which they are served: who got data goes to the end.
    order: BTreeMap<u64, (Wanted, Option<Told>)>,
    places: BTreeMap<Key, u64>,
    next_place: u64,
}

impl Session {
    fn update(&mut self, wanted: Wanted) {
        match self.places.get(&wanted.key()) {
            Some(place) => {
                let told = self.order.get(place).and_then(|(_, told)| *told);
                self.order.insert(*place, (wanted, told));
            }
            None => {
                self.places.insert(wanted.key(), self.next_place);
                self.order.insert(self.next_place, (wanted, None));
                self.next_place += 1;
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
        }
    }

    fn told(&mut self, key: &Key, told: Told, had_data: bool) -> bool {
        let Some(place) = self.places.get(key).copied() else { return false };
        let Some((wanted, before)) = self.order.remove(&place) else { return false };
        let news = had_data || before != Some(told);
        let place = if had_data { self.next_place } else { place };
        self.next_place += u64::from(had_data);
        self.places.insert(key.clone(), place);
        self.order.insert(place, (wanted, Some(told)));
        news
    }

    fn wanted(&self) -> Vec<Wanted> {
        self.order.values().map(|(wanted, _)| wanted.clone()).collect()
    }
}

/// Why a request does not fit its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// No such session (any more).
    NotFound,
    /// Not the epoch that comes next.
    InvalidEpoch,
    /// The session names topics by id and the request by name, or the other way round.
    TopicIds,
}

/// The partitions that a request means, and the session that they belong to.
pub struct Resolved {
    /// What to fetch, in order.
    pub wanted: Vec<Wanted>,
    /// The session's id for the response; 0 for none.
    pub id: i32,
    /// Whether only news are answered.
    pub incremental: bool,
}

/// All sessions of this broker.
pub struct FetchSessions {
    slots: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: BTreeMap<i32, (Arc<Mutex<Session>>, Instant)>,
    partitions: usize,
}

impl FetchSessions {
    /// At most `slots` sessions.
    pub fn new(slots: usize) -> Self {
        Self { slots, inner: Mutex::default() }
    }

    /// Finds out what a request wants. `fresh_id` is a random number for a new session.
    pub fn resolve(
        &self,
        (id, epoch): (i32, i32),
        by_ids: bool,
        wanted: Vec<Wanted>,
        forgotten: Vec<(String, Uuid, i32)>,
        fresh_id: i32,
    ) -> Result<Resolved, SessionError> {
        match epoch {
            FINAL_EPOCH | INITIAL_EPOCH => {
                self.inner.lock().remove(id);
                let id = if epoch == INITIAL_EPOCH { self.create(by_ids, &wanted, fresh_id) } else { 0 };
                Ok(Resolved { wanted, id, incremental: false })
            }
            _ => self.resume(id, epoch, by_ids, wanted, forgotten),
        }
    }

    fn create(&self, by_ids: bool, wanted: &[Wanted], fresh_id: i32) -> i32 {
        let mut inner = self.inner.lock();
        let id = fresh_id.checked_abs().unwrap_or(1).max(1);
        inner.make_room(self.slots);
        let full = inner.sessions.len() >= self.slots || inner.partitions + wanted.len() > MAX_PARTITIONS;
        if full || inner.sessions.contains_key(&id) {
            return 0;
        }
        let mut session = Session { epoch: 1, by_ids, ..Session::default() };
        wanted.iter().cloned().for_each(|wanted| session.update(wanted));
        inner.partitions += session.order.len();
        inner.sessions.insert(id, (Arc::new(Mutex::new(session)), Instant::now()));
        id
    }

    fn resume(
        &self,
        id: i32,
        epoch: i32,
        by_ids: bool,
        wanted: Vec<Wanted>,
        forgotten: Vec<Key>,
    ) -> Result<Resolved, SessionError> {
        let mut inner = self.inner.lock();
        let (session, used) = inner.sessions.get_mut(&id).ok_or(SessionError::NotFound)?;
        *used = Instant::now();
        let session = session.clone();
        let mut session = session.lock();
        if session.epoch != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.by_ids != by_ids && !(wanted.is_empty() && forgotten.is_empty()) {
            return Err(SessionError::TopicIds);
        }
        let before = session.order.len();
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        wanted.into_iter().for_each(|wanted| session.update(wanted));
        forgotten.iter().for_each(|key| session.forget(key));
        let after = session.order.len();
        inner.partitions = (inner.partitions + after).saturating_sub(before);
        let resolved = Resolved { wanted: session.wanted(), id, incremental: true };
        if after == 0 || inner.partitions > MAX_PARTITIONS {
            drop(session);
            inner.remove(id);
            return Ok(Resolved { id: 0, ..resolved });
        }
        Ok(resolved)
    }

    /// Notes what session `id` is told of a partition. Returns whether it is news to the consumer.
    pub fn told(
        &self,
        id: i32,
        wanted: &Wanted,
        high_watermark: i64,
        log_start: i64,
        had_data: bool,
    ) -> bool {
        let session = self.inner.lock().sessions.get(&id).map(|(session, _)| session.clone());
        let told = Told { high_watermark, log_start };
        session.is_none_or(|session| session.lock().told(&wanted.key(), told, had_data))
    }

    /// Sessions there are.
    pub fn len(&self) -> usize {
        self.inner.lock().sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn remove(&mut self, id: i32) {
        if let Some((session, _)) = self.sessions.remove(&id) {
            self.partitions = self.partitions.saturating_sub(session.lock().order.len());
        }
    }

    /// Evicts the session that was unused for longest, if that is long enough.
    fn make_room(&mut self, slots: usize) {
        if self.sessions.len() < slots {
            return;
        }
        let oldest =
            self.sessions.iter().min_by_key(|(_, (_, used))| *used).map(|(id, (_, used))| (*id, *used));
        if let Some((id, used)) = oldest
            && used.elapsed() >= EVICT_AFTER
        {
            self.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(partition: i32, offset: i64) -> Wanted {
        Wanted {
            topic: "t".into(),
            topic_id: Uuid::nil(),
            partition,
            current_leader_epoch: -1,
            offset: Offset(offset),
            last_fetched_epoch: -1,
            max_bytes: 1,
        }
    }

    fn open(sessions: &FetchSessions) -> i32 {
        let full = sessions.resolve((0, INITIAL_EPOCH), false, vec![wanted(0, 5), wanted(1, 5)], vec![], 77);
        full.expect("a new session").id
    }

    #[test]
    fn an_incremental_fetch_remembers_partitions_and_takes_changes() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions);
        let forget = vec![("t".to_owned(), Uuid::nil(), 1)];
        let next = sessions.resolve((id, 1), false, vec![wanted(2, 0)], forget, 0).expect("epoch 1 is next");
        assert!(next.incremental);
        assert_eq!(next.wanted.iter().map(|w| w.partition).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_wrong_epoch_or_id_is_refused() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions);
        assert_eq!(
            sessions.resolve((id, 2), false, vec![], vec![], 0).err(),
            Some(SessionError::InvalidEpoch)
        );
        assert_eq!(
            sessions.resolve((id + 1, 1), false, vec![], vec![], 0).err(),
            Some(SessionError::NotFound)
        );
        assert_eq!(
            sessions.resolve((id, 1), true, vec![wanted(0, 0)], vec![], 0).err(),
            Some(SessionError::TopicIds)
        );
    }

    #[test]
    fn only_news_are_news_and_who_got_data_is_served_last() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions);
        assert!(sessions.told(id, &wanted(0, 5), 9, 0, true));
        assert!(sessions.told(id, &wanted(1, 5), 9, 0, false));
        assert!(!sessions.told(id, &wanted(1, 5), 9, 0, false));
        let next = sessions.resolve((id, 1), false, vec![], vec![], 0).expect("epoch 1 is next");
        assert_eq!(next.wanted.iter().map(|w| w.partition).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn no_session_is_made_when_all_slots_are_in_use() {
        let sessions = FetchSessions::new(1);
        open(&sessions);
        let second =
            sessions.resolve((0, INITIAL_EPOCH), false, vec![wanted(0, 0)], vec![], 5).expect("served");
        assert_eq!((second.id, sessions.len()), (0, 1));
    }

    #[test]
    fn the_final_epoch_ends_a_session() {
        let sessions = FetchSessions::new(10);
        let id = open(&sessions);
        sessions.resolve((id, FINAL_EPOCH), false, vec![], vec![], 0).expect("served");
        assert!(sessions.is_empty());
    }
}
