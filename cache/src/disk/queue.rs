//! Blocks that wait to be written to the disk, bounded in bytes. What does not fit is not kept.

use crate::reader::BlockKey;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::Notify;

pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    blocks: VecDeque<(BlockKey, Bytes)>,
    bytes: usize,
    /// Those of the queue, and of the batch that is being written.
    keys: BTreeSet<BlockKey>,
    writing: Vec<BlockKey>,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), filled: Notify::new() }
    }

    /// Takes a block in, unless there is no room. One that is in it already counts as taken.
    pub(super) fn offer(&self, key: &BlockKey, bytes: &Bytes) -> bool {
        let mut state = self.state.lock();
        if state.keys.contains(key) {
            return true;
        }
        // Twice as much as one batch may hold: while one is written, the next is gathered.
        if bytes.len() > self.batch_bytes() || state.bytes + bytes.len() > self.capacity {
            return false;
        }
        state.bytes += bytes.len();
        state.keys.insert(key.clone());
        state.blocks.push_back((key.clone(), bytes.clone()));
        drop(state);
        self.filled.notify_one();
        true
    }

    fn batch_bytes(&self) -> usize {
        self.capacity / 2
    }

    /// What is there, as much as makes one batch; waits where there is nothing. The batch before it must have been written.
    pub(super) async fn next_batch(&self) -> Vec<(BlockKey, Bytes)> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Vec<(BlockKey, Bytes)> {
        let mut state = self.state.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some((_, block)) = state.blocks.front()
            && (batch.is_empty() || bytes + block.len() <= self.batch_bytes())
        {
            bytes += block.len();
            batch.extend(state.blocks.pop_front());
        }
        state.bytes -= bytes;
        state.writing = batch.iter().map(|(key, _): &(BlockKey, Bytes)| key.clone()).collect();
        batch
    }

    /// The batch that was taken last is on the disk, or lost.
    pub(super) fn written(&self) {
        let State { keys, writing, .. } = &mut *self.state.lock();
        for key in writing.drain(..) {
            keys.remove(&key);
        }
    }

    /// Whether nothing waits, and nothing is being written.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().keys.is_empty()
    }

    /// Forgets all of it.
    pub(super) fn clear(&self) {
        *self.state.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn key(position: u64) -> BlockKey {
        BlockKey { path: "object".into(), position }
    }

    #[test]
    fn what_does_not_fit_is_declined_and_what_is_there_is_not_taken_twice() {
        let queue = Queue::new(100);
        let bytes = Bytes::from_static(&[7; 50]);
        assert!(!queue.offer(&key(0), &Bytes::from_static(&[7; 51])), "larger than a batch");
        assert!(queue.offer(&key(1), &bytes) && queue.offer(&key(1), &bytes) && queue.offer(&key(2), &bytes));
        assert!(!queue.offer(&key(3), &bytes));
        assert_eq!(queue.next_batch().now_or_never().expect("there are two").len(), 1);
        assert!(queue.offer(&key(1), &bytes) && queue.offer(&key(3), &bytes));
        queue.written();
        let rest: Vec<_> = std::iter::from_fn(|| queue.next_batch().now_or_never()).flatten().collect();
        assert_eq!(rest.iter().map(|(key, _)| key.position).collect::<Vec<_>>(), [2, 3]);
        queue.written();
        assert!(queue.offer(&key(1), &bytes), "written, and lost since");
        queue.clear();
        assert!(queue.next_batch().now_or_never().is_none());
    }
}
