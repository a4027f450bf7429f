//! Metadata that are made anew: rows are collected, then written at once into a store that has none.
//!
//! The writing takes many transactions, and a broker must not start on half of them. So the first one sets a mark that the last one
//! takes away, and [`Metadata::check_whole`] refuses where it stands.

use crate::{
    IncarnationRecord, KvError, LogSegmentRecord, MAX_OPERATIONS, Metadata, MetadataError, OwnerRecord,
    SharedRecord, TopicRecord, Transaction,
    call::Outcome,
    keys,
    records::{decode_number, encode_number, encode_offset},
};
use bytes::Bytes;
use std::collections::BTreeMap;
use thalweg_segment::{LogId, Offset};

/// Bytes of one transaction; far below what stores take.
const TRANSACTION_BYTES: usize = 256 << 10;
/// The mark's value.
const MARK: u64 = 1;

/// Rows for a new metadata store.
#[derive(Clone, Debug, Default)]
pub struct NewRows(BTreeMap<Bytes, Bytes>);

impl NewRows {
    /// Begins with the rows of a snapshot.
    pub fn of(rows: BTreeMap<Bytes, Bytes>) -> Self {
        Self(rows)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a shared segment or manifest.
    pub fn put_shared(&mut self, record: &SharedRecord) {
        self.0.insert(keys::shared(record.id), record.encode());
    }

    /// Adds a log segment.
    pub fn put_log_segment(&mut self, record: &LogSegmentRecord) {
        self.0.insert(keys::log_segment(record.log, record.base_offset), record.encode());
    }

    /// Sets an incarnation's record.
    pub fn put_incarnation(&mut self, record: &IncarnationRecord) {
        self.0.insert(keys::incarnation(record.incarnation), record.encode());
    }

    /// Sets the owner of the logs, or says that there is none.
    pub fn set_owner(&mut self, owner: Option<OwnerRecord>) {
        match owner {
            Some(owner) => self.0.insert(Bytes::from_static(keys::OWNER), owner.encode()),
            None => self.0.remove(keys::OWNER),
        };
    }

    /// Sets a topic.
    pub fn put_topic(&mut self, topic: &TopicRecord) {
        self.0.insert(keys::topic(&topic.name), topic.encode());
    }

    /// Sets where a log begins.
    pub fn put_log_start(&mut self, log: LogId, start: Offset) {
        self.0.insert(keys::log_start(log), encode_offset(start));
    }

    /// Broker and leader epochs are above `seen`, and above what the counter says, by `margin` from now on.
    pub fn raise_epochs(&mut self, seen: u64, margin: u64) -> Result<(), KvError> {
        self.raise(keys::EPOCHS, seen, margin)
    }

    /// The same of the next log's id.
    pub fn raise_logs(&mut self, seen: u64, margin: u64) -> Result<(), KvError> {
        self.raise(keys::LOGS, seen, margin)
    }

    /// The same of the next producer id.
    pub fn raise_producers(&mut self, seen: u64, margin: u64) -> Result<(), KvError> {
        self.raise(keys::PRODUCERS, seen, margin)
    }

    /// A counter only rises.
    fn raise(&mut self, counter: &'static [u8], seen: u64, margin: u64) -> Result<(), KvError> {
        let stored = self.0.get(counter).map(|value| decode_number(value)).transpose()?;
        let raised = stored.unwrap_or(0).max(seen).saturating_add(margin);
        self.0.insert(Bytes::from_static(counter), encode_number(raised));
        Ok(())
    }

    /// The transactions that write them: the first sets the mark, the last takes it away.
    fn transactions(self) -> Vec<Transaction> {
        let mark = Bytes::from_static(keys::RESTORING_MARK);
        let begin = Transaction::default().compare(mark.clone(), None).put(mark.clone(), encode_number(MARK));
        let mut all = vec![begin];
        let mut open = Transaction::default();
        let mut bytes = 0;
        for (key, value) in self.0 {
            if open.operations() == MAX_OPERATIONS || bytes > TRANSACTION_BYTES {
                all.push(std::mem::take(&mut open));
                bytes = 0;
            }
            bytes += key.len() + value.len();
            open = open.put(key, value);
        }
        all.extend((open.operations() > 0).then_some(open));
        all.push(Transaction::default().delete(mark));
        all
    }
}

impl Metadata {
    /// Writes `rows` into a store that has none. `Conflict` where it has some.
    pub async fn write_new(&self, rows: NewRows) -> Result<(), MetadataError> {
        let mut call = self.call();
        let found = call.range(Bytes::new(), Bytes::from_static(keys::END)).await?;
        if !found.is_empty() {
            return Err(MetadataError::conflict("an empty metadata store"));
        }
        for transaction in rows.transactions() {
            // Each of them may be applied twice.
            while call.transact(transaction.clone()).await? == Outcome::Unknown {}
        }
        Ok(())
    }

    /// `Corrupt` where a restoration was begun and did not come to its end: what there is must not be used.
    pub async fn check_whole(&self) -> Result<(), MetadataError> {
        match self.call().get(keys::RESTORING_MARK).await? {
            None => Ok(()),
            Some(_) => {
                let reason = "a restoration did not come to its end: delete the metadata (meta/) and run `thalweg restore` again";
                Err(KvError::Corrupt { reason: reason.into() }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyValueStore, MemoryKv, testing::runtime};
    use std::sync::Arc;

    fn rows(count: u64) -> NewRows {
        let mut rows = NewRows::default();
        (0..count).for_each(|log| rows.put_log_start(LogId(log), Offset(7)));
        rows
    }

    fn metadata(kv: Arc<dyn KeyValueStore>) -> Metadata {
        Metadata::new(kv, runtime())
    }

    #[tokio::test]
    async fn what_was_collected_is_there_and_whole_at_the_end() {
        let kv = MemoryKv::new();
        let metadata = metadata(kv.open());
        metadata.write_new(rows(1000)).await.expect("it is empty");
        metadata.check_whole().await.expect("the mark is gone");
        assert_eq!(metadata.log_starts().await.expect("read").len(), 1000);
        assert_eq!(kv.rows().len(), 1000);
    }

    #[tokio::test]
    async fn what_holds_something_is_not_written_to() {
        let kv = MemoryKv::new();
        let metadata = metadata(kv.open());
        metadata.allocate_producer_ids(1).await.expect("drawn");
        assert!(matches!(metadata.write_new(rows(1)).await, Err(MetadataError::Conflict { .. })));
        assert_eq!(kv.rows().len(), 1);
    }

    #[tokio::test]
    async fn half_of_it_is_told_from_the_whole() {
        let kv = MemoryKv::new();
        let transactions = rows(1000).transactions();
        for transaction in &transactions[..transactions.len() - 1] {
            assert!(transaction.operations() <= MAX_OPERATIONS);
            assert!(kv.open().transact(transaction.clone()).await.expect("memory does not fail"));
            let metadata = metadata(kv.open());
            assert!(metadata.check_whole().await.is_err());
            assert!(metadata.write_new(rows(1)).await.is_err());
        }
    }

    #[test]
    fn counters_only_rise() {
        let mut rows = NewRows::default();
        rows.raise_logs(7, 1).expect("nothing is stored");
        rows.raise_logs(3, 2).expect("a number is stored");
        assert_eq!(rows.0[keys::LOGS], encode_number(10));
    }
}
