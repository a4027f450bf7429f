//! Reads a log from wherever its batches are: the tail in memory, else the block cache and the object store.

use crate::{broker::Broker, partition::Log};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;
use thalweg_cache::{Run, Tail};
use thalweg_metadata::IndexError;
use thalweg_runtime::Charge;
use thalweg_segment::{AbortedTransaction, Attributes, Batch, Offset};

/// Records smaller than this are copied next to their header: a system call's slice costs more than the copy.
const COPY_BELOW: usize = 1024;
/// Size of the buffers that headers and small records are gathered in.
const GATHER: usize = 8 * 1024;

/// Whole batches on their way to a client, as slices of what they were read from.
#[derive(Debug, Default)]
pub struct Slices {
    /// The bytes, in order.
    pub chunks: Vec<Bytes>,
    /// Keeps the memory behind the slices charged.
    pub held: Vec<Charge>,
    /// Bytes in all.
    pub len: usize,
    /// Offset after the last batch; 0 where there is none.
    pub end: Offset,
    /// Whether any of the batches is part of a transaction.
    pub transactional: bool,
}

impl Slices {
    fn of_batches(batches: &[Batch]) -> Self {
        let mut slices = Self::default();
        let mut gathered = BytesMut::new();
        for batch in batches {
            slices.len += batch.len();
            slices.end = batch.end_offset();
            slices.transactional |= batch.attributes() & Attributes::TRANSACTIONAL != 0;
            slices.held.extend(batch.charge().cloned());
            gathered.put_slice(batch.head());
            if batch.records().len() < COPY_BELOW {
                gathered.put_slice(batch.records());
            } else {
                slices.chunks.push(gathered.split().freeze());
                slices.chunks.push(batch.records().clone());
            }
            if gathered.capacity() - gathered.len() < COPY_BELOW {
                slices.chunks.push(gathered.split().freeze());
                gathered.reserve(GATHER);
            }
        }
        slices.chunks.push(gathered.freeze());
        slices.chunks.retain(|chunk| !chunk.is_empty());
        slices
    }

    fn of_runs(runs: Vec<Run>) -> Self {
        let end = runs.last().map_or(Offset(0), |run| run.end);
        let chunks: Vec<Bytes> = runs.into_iter().map(|run| run.bytes).collect();
        let len = chunks.iter().map(Bytes::len).sum();
        let transactional = chunks.iter().any(is_transactional);
        Self { chunks, held: Vec::new(), len, end, transactional }
    }
}

/// Who a log is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// Anybody, and others may follow.
    Many { at_least_one: bool },
    /// One who reads all of it, once.
    One,
}

impl Broker {
    /// Batches of `log` from the one that holds `from`, all below `limit`, until `max_bytes` are reached; the first even where
    /// it alone is larger, if `at_least_one`.
    pub async fn read(
        &self,
        log: &Log,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Slices, IndexError> {
        self.read_for(Readers::Many { at_least_one }, log, from, limit, max_bytes).await
    }

    /// As [`Self::read`] (the first batch even where it alone is larger), for who reads the log from its start to its end and not
    /// again: the block cache does not keep what was read.
    pub async fn read_once(
        &self,
        log: &Log,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
    ) -> Result<Slices, IndexError> {
        self.read_for(Readers::One, log, from, limit, max_bytes).await
    }

    async fn read_for(
        &self,
        readers: Readers,
        log: &Log,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
    ) -> Result<Slices, IndexError> {
        let at_least_one = readers != Readers::Many { at_least_one: false };
        if from >= limit {
            return Ok(Slices::default());
        }
        if let Tail::Hit(batches) = self.cache.read(log.id(), from, limit, max_bytes, at_least_one) {
            return Ok(Slices::of_batches(&batches));
        }
        // What memory holds need not be read, nor read ahead. What is before it is in the index by now.
        let tail = self.cache.first_offset(log.id()).filter(|first| (from..limit).contains(first));
        let end = tail.unwrap_or(limit);
        let runs = match readers {
            Readers::Many { at_least_one } => {
                self.reader.read(log.id(), from, end, max_bytes, at_least_one).await?
            }
            Readers::One => self.reader.read_once(log.id(), from, end, max_bytes).await?,
        };
        if runs.is_empty()
            && at_least_one
            && let Some(first) = tail
            && let Tail::Hit(batches) = self.cache.read(log.id(), first, limit, max_bytes, at_least_one)
        {
            // All that was before the tail is gone.
            return Ok(Slices::of_batches(&batches));
        }
        Ok(Slices::of_runs(runs))
    }

    /// Aborted transactions that a reader of committed data in `[from, to)` needs: those of the tail from the log itself, those
    /// of what is flushed from the object index. In order of their markers.
    pub async fn aborted(
        &self,
        log: &Log,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, IndexError> {
        // The tail first: what is flushed meanwhile is then in both.
        let tail = log.aborted_in_tail(from, to);
        let mut aborted = self.topics.index().aborted(log.id(), from, to).await?;
        let known: BTreeSet<Offset> = aborted.iter().map(|one| one.last_offset).collect();
        aborted.extend(tail.into_iter().filter(|one| !known.contains(&one.last_offset)));
        Ok(aborted)
    }
}

/// Whether any of the whole batches in `bytes` is part of a transaction. They were checked when they came in.
fn is_transactional(bytes: &Bytes) -> bool {
    let mut rest = bytes.clone();
    std::iter::from_fn(|| Batch::split_from(&mut rest).ok())
        .any(|batch| batch.attributes() & Attributes::TRANSACTIONAL != 0)
}
