//! Batches for this crate's tests.

use bytes::Bytes;
use thalweg_segment::{Batch, HEADER_LEN, LeaderEpoch, Offset};

/// A batch of `records` records at `base`, with `bytes` bytes of them.
pub(crate) fn batch(base: i64, records: i32, bytes: usize) -> Batch {
    let mut head = [0; HEADER_LEN];
    head[16] = 2;
    head[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    head[43..51].copy_from_slice(&(-1i64).to_be_bytes());
    head[57..61].copy_from_slice(&records.to_be_bytes());
    let mut batch = Batch::assemble(head, Bytes::from(vec![base as u8; bytes]));
    batch.place(Offset(base), LeaderEpoch(1));
    batch
}
