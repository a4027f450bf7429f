//! The first pass: where the last record of each key is.

use super::{CleanError, KeyMap, RecordCodec, transactions::Transactions};
use thalweg_segment::{AbortedTransaction, Batch, Offset};

/// Collects the keys of the dirty part, batch by batch.
pub struct Mapping {
    keys: KeyMap,
    transactions: Transactions,
    from: Offset,
    end: Offset,
    full: bool,
}

/// The offset of the last record of each key, as far as it was looked for.
pub struct Mapped {
    keys: KeyMap,
    end: Offset,
}

impl Mapping {
    /// Begins at `from`. `aborted` are all aborted transactions that have a record at or behind it; those that ended before it, whose
    /// markers won't be met, are left out.
    pub fn new(keys: KeyMap, aborted: &[AbortedTransaction], from: Offset) -> Self {
        let met: Vec<_> = aborted.iter().filter(|one| one.last_offset >= from).copied().collect();
        Self { keys, transactions: Transactions::new(&met), from, end: from, full: false }
    }

    /// Takes in the next batch of the log. Once the table is full, nothing more is taken in.
    pub fn add(&mut self, batch: &Batch, codec: &dyn RecordCodec) -> Result<(), CleanError> {
        if self.full || batch.end_offset() <= self.from {
            return Ok(());
        }
        let entry = batch.entry();
        if entry.is_control() {
            self.transactions.control(batch);
        } else if !self.transactions.data(&entry) {
            codec.read(batch, &mut |record| {
                let offset = batch.base_offset().plus(record.offset_delta.into());
                if let Some(key) = record.key.filter(|_| offset >= self.from && !self.full)
                    && !self.keys.insert(key, offset)
                {
                    (self.full, self.end) = (true, offset);
                }
            })?;
        }
        if !self.full {
            self.end = batch.end_offset();
        }
        Ok(())
    }

    /// Whether there is no room for another key.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Everything up to `end` was given.
    pub fn finish(mut self, end: Offset) -> Mapped {
        if !self.full {
            self.end = self.end.max(end);
        }
        Mapped { keys: self.keys, end: self.end }
    }
}

impl Mapped {
    /// Offset up to which keys are known; behind it nothing can be said of any record.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether no later record with this key is known.
    pub(super) fn is_last(&self, key: &[u8], offset: Offset) -> bool {
        self.keys.get(key).is_none_or(|last| offset >= last)
    }
}
