//! A key-value store in memory, for tests and the simulation. It forgets everything with its last handle.
//!
//! Several handles share one state, as several brokers share a metadata store. [`MemoryKv::new`] behaves like a cluster's
//! store: every handle stays valid. [`MemoryKv::exclusive`] behaves like the embedded one: opening it again fences the
//! handles before, whose transactions fail from then on and whose reads answer the state at that moment, as SlateDB's do.
//! It answers at once and never fails otherwise; faults are injected around it.

use crate::{
    Compare, KeyValueStore, KvError, MAX_OPERATIONS, Transaction, Write, embedded_reader::read_only,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included},
    sync::Arc,
};

/// The state that handles share. Cheap to clone.
#[derive(Clone)]
pub struct MemoryKv {
    exclusive: bool,
    newest: Arc<Mutex<Arc<Mutex<View>>>>,
}

/// What one opening sees.
#[derive(Default)]
struct View {
    rows: BTreeMap<Bytes, Bytes>,
    fenced: bool,
}

struct Handle(Arc<Mutex<View>>);

/// The rows at one moment.
struct Snapshot(BTreeMap<Bytes, Bytes>);

impl Default for MemoryKv {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryKv {
    /// An empty store whose handles all stay valid, as a cluster's do.
    pub fn new() -> Self {
        Self { exclusive: false, newest: Arc::default() }
    }

    /// An empty store of which only the newest handle may write, as of the embedded one.
    pub fn exclusive() -> Self {
        Self { exclusive: true, newest: Arc::default() }
    }

    /// A store that holds `rows`, whose handles all stay valid.
    pub fn of_rows(rows: BTreeMap<Bytes, Bytes>) -> Self {
        let view = Arc::new(Mutex::new(View { rows, fenced: false }));
        Self { exclusive: false, newest: Arc::new(Mutex::new(view)) }
    }

    /// A handle on the shared state.
    pub fn open(&self) -> Arc<dyn KeyValueStore> {
        let mut newest = self.newest.lock();
        if self.exclusive {
            let next = newest.lock().succeed();
            *newest = next;
        }
        Arc::new(Handle(newest.clone()))
    }

    /// What is stored now, for reading only, as [`EmbeddedReader`](crate::EmbeddedReader) shows it. Fences nobody.
    pub fn open_to_read(&self) -> Arc<dyn KeyValueStore> {
        Arc::new(Snapshot(self.rows()))
    }

    /// Everything that is stored, for checks in tests.
    pub fn rows(&self) -> BTreeMap<Bytes, Bytes> {
        self.newest.lock().lock().rows.clone()
    }
}

impl View {
    /// Fences this view and returns the next, which goes on from it.
    fn succeed(&mut self) -> Arc<Mutex<View>> {
        self.fenced = true;
        Arc::new(Mutex::new(View { rows: self.rows.clone(), fenced: false }))
    }

    fn holds(&self, compare: &Compare) -> bool {
        self.rows.get(&compare.key) == compare.value.as_ref()
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Put(key, value) => self.rows.insert(key, value),
            Write::Delete(key) => self.rows.remove(&key),
        };
    }
}

#[async_trait]
impl KeyValueStore for Handle {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.0.lock().rows.get(key).cloned())
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        Ok(rows_between(&self.0.lock().rows, from, to, limit))
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, KvError> {
        assert!(transaction.operations() <= MAX_OPERATIONS, "a transaction is split before it is too large");
        let mut view = self.0.lock();
        if view.fenced {
            return Err(KvError::Fenced { reason: "the store was opened again".into() });
        }
        if !transaction.compares.iter().all(|compare| view.holds(compare)) {
            return Ok(false);
        }
        transaction.writes.into_iter().for_each(|write| view.apply(write));
        Ok(true)
    }

    async fn close(&self) -> Result<(), KvError> {
        Ok(())
    }
}

#[async_trait]
impl KeyValueStore for Snapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.0.get(key).cloned())
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        Ok(rows_between(&self.0, from, to, limit))
    }

    async fn transact(&self, _: Transaction) -> Result<bool, KvError> {
        Err(read_only())
    }

    async fn close(&self) -> Result<(), KvError> {
        Ok(())
    }
}

fn rows_between(rows: &BTreeMap<Bytes, Bytes>, from: &[u8], to: &[u8], limit: usize) -> Vec<(Bytes, Bytes)> {
    if from >= to {
        return Vec::new();
    }
    let rows = rows.range::<[u8], _>((Included(from), Excluded(to)));
    rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Backend, run, run_read_only};

    #[async_trait]
    impl Backend for MemoryKv {
        async fn open(&self) -> Arc<dyn KeyValueStore> {
            MemoryKv::open(self)
        }

        fn exclusive(&self) -> bool {
            self.exclusive
        }

        async fn open_to_read(&self) -> Option<Arc<dyn KeyValueStore>> {
            Some(MemoryKv::open_to_read(self))
        }
    }

    #[tokio::test]
    async fn the_shared_store_conforms() {
        run(&MemoryKv::new()).await;
    }

    #[tokio::test]
    async fn the_exclusive_store_conforms() {
        run(&MemoryKv::exclusive()).await;
    }

    #[tokio::test]
    async fn the_store_opened_for_reading_conforms() {
        run_read_only(&MemoryKv::new()).await;
        run_read_only(&MemoryKv::exclusive()).await;
    }

    #[tokio::test]
    async fn a_fenced_handle_reads_what_stood_when_it_was_fenced() {
        let shared = MemoryKv::exclusive();
        let first = shared.open();
        let key = Bytes::from_static(b"key");
        let second = shared.open();
        let put = Transaction::default().put(key.clone(), Bytes::from_static(b"second"));
        assert!(second.transact(put).await.expect("the newest handle writes"));
        assert_eq!(first.get(&key).await.expect("a fenced handle reads"), None);
    }
}
