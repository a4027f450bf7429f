//! Reads state blocks: those that logs would be opened from.

use crate::{
    contents::{PARALLEL_READS, Row},
    findings::{Finding, FindingKind},
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use thalweg_segment::{
    LogId, LogState, Offset, Purpose, ReadError, SegmentId, StateEntry, Store, StoreError, read_states,
};

/// What was found, how many states were read, and which objects were gone.
#[derive(Debug, Default)]
pub(crate) struct StatesRead {
    pub findings: Vec<Finding>,
    pub states: u64,
    pub gone: Vec<SegmentId>,
}

/// Reads the states of `wanted` logs in each of `rows` that has some.
pub(crate) async fn read_newest(
    store: &Store,
    rows: impl Iterator<Item = Row>,
    mut wanted: BTreeMap<SegmentId, Vec<LogId>>,
) -> Result<StatesRead, StoreError> {
    let reads: Vec<_> = rows
        .filter_map(|row| wanted.remove(&row.id).map(|logs| (row, logs)))
        .map(|(row, logs)| of_object(store, row, logs))
        .collect();
    let read: Vec<_> = stream::iter(reads).buffer_unordered(PARALLEL_READS).try_collect().await?;
    let mut all = StatesRead::default();
    for one in read {
        all.findings.extend(one.findings);
        all.states += one.states;
        all.gone.extend(one.gone);
    }
    Ok(all)
}

async fn of_object(store: &Store, row: Row, logs: Vec<LogId>) -> Result<StatesRead, StoreError> {
    let mut all = StatesRead::default();
    let read = row.read_index(store, Purpose::Fetch).await;
    // An index that can't be read was found so before.
    let index = match read {
        Ok(index) => index,
        Err(ReadError::Store(StoreError::NotFound { .. })) => {
            all.gone.push(row.id);
            return Ok(all);
        }
        Err(ReadError::Store(error)) => return Err(error),
        Err(ReadError::Format { .. }) => return Ok(all),
    };
    let entries: Vec<_> = logs.iter().filter_map(|log| index.state_of(*log).copied()).collect();
    all.states = entries.len() as u64;
    read_each(store, &row, &entries, &mut all).await?;
    Ok(all)
}

/// Reads all at once and, where that fails, one by one, to tell the bad ones from the others.
async fn read_each(
    store: &Store,
    row: &Row,
    entries: &[StateEntry],
    all: &mut StatesRead,
) -> Result<(), StoreError> {
    match read_states(store, &row.path, entries).await {
        Ok(states) => {
            let checked =
                entries.iter().zip(&states).filter_map(|(entry, state)| check_state(row, entry, state));
            all.findings.extend(checked);
        }
        Err(ReadError::Store(StoreError::NotFound { .. })) => all.gone.push(row.id),
        Err(ReadError::Store(error)) => return Err(error),
        Err(ReadError::Format { source, .. }) if entries.len() == 1 => {
            all.findings.push(corrupt(row, &entries[0], &source.to_string()));
        }
        Err(ReadError::Format { .. }) => {
            for entry in entries {
                Box::pin(read_each(store, row, std::slice::from_ref(entry), all)).await?;
            }
        }
    }
    Ok(())
}

/// Whether a state makes sense at its offset: nothing in it is newer.
fn check_state(row: &Row, entry: &StateEntry, state: &LogState) -> Option<Finding> {
    let newest_epoch = state.leader_epochs.last().map(|(_, first)| *first);
    let newest_open = state.first_open_offset();
    let late = |offset: Option<Offset>| offset.is_some_and(|offset| offset > entry.end);
    if late(newest_epoch) || late(newest_open) {
        return Some(corrupt(row, entry, "it tells of offsets behind its own"));
    }
    None
}

fn corrupt(row: &Row, entry: &StateEntry, why: &str) -> Finding {
    Finding::new(FindingKind::CorruptState, why).at(&row.path).of_log(entry.log).offsets(entry.end, entry.end)
}
