//! Every byte of every object of the index, and of the WAL: CRCs, batches, states. In pieces of a few MiB, a few at a time.
//!
//! An object that a rewrite replaces meanwhile may be gone by the time it is read. That is told apart afterwards.

use crate::{
    contents::Row,
    findings::{Finding, FindingKind},
    states,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use std::ops::Range;
use thalweg_runtime::{Budget, Runtime};
use thalweg_segment::{
    Batch, BatchEntry, BlockEntry, FormatError, Incarnation, Index, Kind, Purpose, ReadError, Store,
    StoreError, WalSequence, check_block, read_index, split_batches, wal_path,
};

/// A read ends once it is this long.
const READ_BYTES: u64 = 4 << 20;
/// Bytes in memory at a time; a single larger block goes alone.
const MEMORY_BYTES: usize = 64 << 20;
/// Objects under way at a time.
const OBJECTS: usize = 8;

/// What was read, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Deep {
    pub findings: Vec<Finding>,
    pub blocks: u64,
    pub bytes: u64,
    pub states: u64,
    /// Objects that were gone.
    pub gone: Vec<Path>,
}

/// An object to be read whole.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Of the index.
    Indexed(Row),
    /// Of a WAL that is still needed.
    Wal(Incarnation, WalSequence),
}

/// Blocks that lie side by side in one object, to be read at once.
struct Run<'a> {
    path: Path,
    range: Range<u64>,
    blocks: Vec<&'a BlockEntry>,
}

/// Reads all of `targets`.
pub(crate) async fn read(runtime: &Runtime, store: &Store, targets: Vec<Target>) -> Result<Deep, StoreError> {
    let memory = Budget::new("deep", MEMORY_BYTES);
    let reads: Vec<_> =
        targets.into_iter().map(|target| read_target(runtime, store, &memory, target)).collect();
    let mut all = Deep::default();
    let mut read = stream::iter(reads).buffer_unordered(OBJECTS);
    while let Some(one) = read.try_next().await? {
        all.findings.extend(one.findings);
        all.blocks += one.blocks;
        all.bytes += one.bytes;
        all.states += one.states;
        all.gone.extend(one.gone);
    }
    Ok(all)
}

async fn read_target(
    runtime: &Runtime,
    store: &Store,
    memory: &Budget,
    target: Target,
) -> Result<Deep, StoreError> {
    let mut deep = Deep::default();
    let (path, read) = match &target {
        Target::Indexed(row) => {
            let read = row.read_index(store, Purpose::Fetch).await;
            (row.path.clone(), read.map(|index| (row.kind, index)))
        }
        Target::Wal(incarnation, sequence) => {
            let path = wal_path(*incarnation, *sequence);
            let read = read_index(store, &path).await;
            (path, read.map(|(footer, index)| (footer.kind, index)))
        }
    };
    let (kind, index) = match read {
        Ok(read) => read,
        Err(ReadError::Store(StoreError::NotFound { .. })) => {
            deep.gone.push(path);
            return Ok(deep);
        }
        Err(ReadError::Store(error)) => return Err(error),
        // Found before.
        Err(ReadError::Format { .. }) => return Ok(deep),
    };
    let place = |block: &BlockEntry| match &target {
        Target::Indexed(row) => row.path_of(block),
        Target::Wal(..) => path.clone(),
    };
    for run in runs(&index, place) {
        read_run(runtime, store, memory, run, kind, &mut deep).await?;
    }
    if let Target::Indexed(row) = target {
        let logs = index.states.iter().map(|state| state.log).collect();
        let wanted = [(row.id, logs)].into();
        let read = states::read_newest(store, [row].into_iter(), wanted).await?;
        deep.findings.extend(read.findings);
        deep.states += read.states;
    }
    Ok(deep)
}

/// Reads of neighbouring blocks, in the order of their places.
fn runs(index: &Index, place: impl Fn(&BlockEntry) -> Path) -> Vec<Run<'_>> {
    let mut placed: Vec<_> = index.blocks.iter().map(|block| (place(block), block)).collect();
    placed.sort_by(|(a, one), (b, other)| (a, one.position).cmp(&(b, other.position)));
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (path, block) in placed {
        match runs.last_mut() {
            Some(run)
                if run.path == path
                    && run.range.end == block.position
                    && run.range.end - run.range.start < READ_BYTES =>
            {
                run.range.end = block.end_position();
                run.blocks.push(block);
            }
            _ => runs.push(Run { path, range: block.position..block.end_position(), blocks: vec![block] }),
        }
    }
    runs
}

async fn read_run(
    runtime: &Runtime,
    store: &Store,
    memory: &Budget,
    run: Run<'_>,
    kind: Kind,
    deep: &mut Deep,
) -> Result<(), StoreError> {
    let Run { path, range, blocks } = run;
    let charge = memory.charge(usize::try_from(range.end - range.start).unwrap_or(usize::MAX)).await;
    let bytes = match store.get_range(&path, range.clone(), Purpose::Check).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => {
            deep.gone.push(path);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    deep.blocks += blocks.len() as u64;
    deep.bytes += bytes.len() as u64;
    let blocks: Vec<_> = blocks.into_iter().cloned().collect();
    let found = runtime.compute(move || {
        let _charge = charge;
        let check = |block: BlockEntry| {
            let start = (block.position - range.start) as usize;
            let bytes = bytes.slice(start..start + block.size as usize);
            check_bytes(bytes, &block, kind).err().map(|why| (block, why))
        };
        blocks.into_iter().filter_map(check).collect::<Vec<_>>()
    });
    let finding = |(block, why): (BlockEntry, String)| {
        let finding = Finding::new(FindingKind::CorruptBlock, format!("at byte {}: {why}", block.position));
        finding.at(&path).of_log(block.log).offsets(block.base_offset, block.end_offset)
    };
    deep.findings.extend(found.await.into_iter().map(finding));
    Ok(())
}

/// Checks a block's CRC, then that it is made of whole batches, in order, each with its CRC, and that its entry says so.
fn check_bytes(bytes: Bytes, block: &BlockEntry, kind: Kind) -> Result<(), String> {
    let batches = check_block(&bytes, block).and_then(|()| split_batches(bytes));
    let batches = batches.map_err(|error: FormatError| error.to_string())?;
    if let Some(batch) = batches.iter().find(|batch| batch.verify_crc().is_err()) {
        return Err(format!("the CRC of the batch at {} does not match", batch.base_offset()));
    }
    let mut end = block.base_offset;
    for batch in &batches {
        // A manifest's block may hold what a recovery has left out.
        if !kind.is_manifest() && (batch.base_offset() < end || batch.end_offset() > block.end_offset) {
            return Err(format!("the batch at {} is out of order", batch.base_offset()));
        }
        end = batch.end_offset();
    }
    let entries: Vec<_> = batches.iter().map(Batch::entry).collect();
    let differs = |entry: &&BatchEntry| {
        let at = entries.binary_search_by_key(&entry.base_offset, |found| found.base_offset);
        !at.is_ok_and(|at| entries[at] == **entry)
    };
    match block.batches.iter().find(differs) {
        Some(entry) => Err(format!("the batch at {} is not what the index says", entry.base_offset)),
        None => Ok(()),
    }
}
