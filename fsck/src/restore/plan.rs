//! From the evidence to rows, and to what is said of it. Pure.

use super::{
    choose::{Candidate, choose},
    evidence::{Evidence, Segment},
    report::{NamelessLog, Offsets, Restored},
    wal,
};
use crate::{
    logs::{Piece, walk},
    view::is_compacted,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::{LogRun, LogSegmentRecord, NewRows, SharedRecord, TopicRecord, rank};
use thalweg_segment::{Kind, LogId, Offset, SegmentId, wal_path};
use uuid::Uuid;

/// Epochs may have been drawn that left no trace; a start draws two.
const EPOCH_MARGIN: u64 = 1_000;
/// So may ids of logs.
const LOG_MARGIN: u64 = 1 << 20;
/// Producer ids may have been given away that wrote nothing which is left.
const PRODUCER_MARGIN: u64 = 1 << 32;

/// What is known of one log.
#[derive(Debug, Default)]
struct Log {
    pieces: Vec<Piece>,
    state: Option<Offset>,
}

impl Log {
    fn end(&self) -> Offset {
        self.pieces.iter().map(|piece| piece.end).chain(self.state).max().unwrap_or_default()
    }
}

/// The rows of the new metadata. `id` gives ids for new topics.
pub(crate) fn plan(evidence: &Evidence, window: u32, id: impl Fn() -> Uuid) -> (NewRows, Restored) {
    let remembered = evidence.remembered.as_ref();
    let mut rows = NewRows::of(remembered.map(|all| all.snapshot.rows.clone()).unwrap_or_default());
    let mut restored = Restored::begin(evidence);
    let (named, nameless) = known_logs(evidence);
    let chosen = choose(candidates(evidence, &named, &nameless, &mut restored));
    let mut logs = logs_of(&chosen);
    let moved = close_gaps(evidence, &mut logs);
    put_index(evidence, &chosen, &moved, &mut rows, &mut restored);
    put_nameless(evidence, &nameless, &logs, id, &mut rows, &mut restored);
    put_starts(evidence, &mut logs, &named, &mut rows, &mut restored);
    put_incarnations(evidence, &logs, &named, &nameless, window, &mut rows, &mut restored);
    put_counters(evidence, &nameless, &mut rows, &mut restored);
    (rows, restored)
}

/// The logs that topics have, and those that came after the snapshot. Others were deleted before it.
fn known_logs(evidence: &Evidence) -> (BTreeSet<LogId>, BTreeSet<LogId>) {
    let topics = evidence.remembered.iter().flat_map(|all| &all.topics);
    let named: BTreeSet<LogId> = topics.flat_map(TopicRecord::log_ids).collect();
    let next = LogId(evidence.remembered.as_ref().map_or(0, |all| all.next_log));
    let in_segments = evidence.segments.iter().flat_map(|segment| {
        let contents = &segment.contents;
        contents.extents.iter().map(|extent| extent.log).chain(contents.states.iter().map(|(log, _)| *log))
    });
    let in_wal =
        evidence.wal.values().flat_map(|wal| wal.values().flat_map(|data| data.ends.keys().copied()));
    let nameless = in_segments.chain(in_wal).filter(|log| *log >= next && !named.contains(log)).collect();
    (named, nameless)
}

fn candidates(
    evidence: &Evidence,
    named: &BTreeSet<LogId>,
    nameless: &BTreeSet<LogId>,
    restored: &mut Restored,
) -> Vec<Candidate> {
    let is_known = |log: &LogId| named.contains(log) || nameless.contains(log);
    let mut candidates = Vec::new();
    for segment in &evidence.segments {
        if segment.kind.is_manifest() && evidence.adopts(segment).is_none() {
            restored.manifests_without_wal += 1;
            continue;
        }
        let mut candidate = candidate(segment);
        candidate.extents.retain(|(log, ..)| is_known(log));
        candidate.states.retain(|(log, _)| is_known(log));
        if candidate.extents.is_empty() && candidate.states.is_empty() {
            restored.of_deleted_topics += 1;
        } else {
            candidates.push(candidate);
        }
    }
    candidates
}

fn candidate(segment: &Segment) -> Candidate {
    let contents = &segment.contents;
    let extents = contents.extents.iter().map(|extent| (extent.log, extent.base, extent.end));
    let plain = Candidate {
        id: segment.id,
        rank: rank(segment.kind),
        extents: extents.collect(),
        states: contents.states.clone(),
        row: None,
    };
    if segment.kind != Kind::Log {
        return plain;
    }
    // Its state is that of the end that it stands for, whatever log compaction has taken out of it.
    let Some((log, end)) = contents.states.first().copied() else { return plain };
    let base = contents.extents.first().map_or(Offset((end.0 - 1).max(0)), |extent| extent.base);
    Candidate { extents: vec![(log, base, end)], row: Some((log, base)), ..plain }
}

fn logs_of(chosen: &[Candidate]) -> BTreeMap<LogId, Log> {
    let mut logs: BTreeMap<LogId, Log> = BTreeMap::new();
    for candidate in chosen {
        for (log, base, end) in &candidate.extents {
            let piece = Piece { base: *base, end: *end, rank: candidate.rank, id: candidate.id };
            logs.entry(*log).or_default().pieces.push(piece);
        }
        for (log, end) in &candidate.states {
            let state = &mut logs.entry(*log).or_default().state;
            *state = (*state).max(Some(*end));
        }
    }
    logs
}

/// In a topic that is compacted by key, what lies between two objects was compacted away, and the log segment behind it stands for it.
/// Gives the segments that begin earlier by that, with their new first offset.
fn close_gaps(evidence: &Evidence, logs: &mut BTreeMap<LogId, Log>) -> BTreeMap<SegmentId, Offset> {
    let topics = evidence.remembered.iter().flat_map(|all| &all.topics).filter(|topic| is_compacted(topic));
    let mut moved = BTreeMap::new();
    for id in topics.flat_map(TopicRecord::log_ids) {
        let Some(log) = logs.get_mut(&id) else { continue };
        let gaps = walk(Offset(0), None, &mut log.pieces).gaps;
        for (from, to) in gaps.into_iter().filter(|(from, _)| from.0 > 0) {
            if let Some(piece) =
                log.pieces.iter_mut().find(|piece| piece.base == to && piece.rank == rank(Kind::Log))
            {
                piece.base = from;
                moved.insert(piece.id, from);
            }
        }
    }
    moved
}

fn put_index(
    evidence: &Evidence,
    chosen: &[Candidate],
    moved: &BTreeMap<SegmentId, Offset>,
    rows: &mut NewRows,
    restored: &mut Restored,
) {
    let segments: BTreeMap<SegmentId, &Segment> =
        evidence.segments.iter().map(|segment| (segment.id, segment)).collect();
    for candidate in chosen {
        let segment = segments[&candidate.id];
        match (candidate.row, candidate.extents.first()) {
            (Some(_), Some((log, base, end))) => {
                restored.log_segments += 1;
                rows.put_log_segment(&LogSegmentRecord {
                    log: *log,
                    base_offset: moved.get(&segment.id).copied().unwrap_or(*base),
                    end_offset: *end,
                    max_timestamp: segment.max_timestamp,
                    id: segment.id,
                    shape: segment.shape,
                    // Nothing says it: the log is looked through once more.
                    cleaned_to: Offset(0),
                });
            }
            _ => {
                let adopts = evidence.adopts(segment);
                restored.shared_segments += u64::from(adopts.is_none());
                restored.manifests += u64::from(adopts.is_some());
                rows.put_shared(&SharedRecord { id: segment.id, shape: segment.shape, adopts });
                restored.missing_wal.extend(missing_wal(evidence, segment));
            }
        }
    }
    restored.closed_gaps = moved.len() as u64;
    restored.not_needed = evidence.segments.len() as u64
        - chosen.len() as u64
        - restored.of_deleted_topics
        - restored.manifests_without_wal;
}

/// WAL objects that a manifest needs and that are gone.
fn missing_wal(evidence: &Evidence, segment: &Segment) -> Vec<String> {
    let Some(dead) = evidence.adopts(segment) else { return Vec::new() };
    let adopted = segment.contents.adopted.keys();
    let gone = adopted.filter(|sequence| evidence.listing.wal_object(dead, **sequence).is_none());
    gone.map(|sequence| wal_path(dead, *sequence).to_string()).collect()
}

/// Logs without a name get topics of their own, or the next start would take them for a deleted topic's.
fn put_nameless(
    evidence: &Evidence,
    nameless: &BTreeSet<LogId>,
    logs: &BTreeMap<LogId, Log>,
    id: impl Fn() -> Uuid,
    rows: &mut NewRows,
    restored: &mut Restored,
) {
    let topics = evidence.remembered.iter().flat_map(|all| &all.topics);
    let taken: BTreeSet<&str> = topics.map(|topic| topic.name.as_str()).collect();
    for log in nameless {
        let mut name = format!("restored-log-{log}");
        while taken.contains(name.as_str()) {
            name.push('_');
        }
        let logs_of_topic = vec![LogRun { first: *log, count: 1 }];
        rows.put_topic(&TopicRecord {
            name: name.clone(),
            id: id(),
            logs: logs_of_topic,
            configs: BTreeMap::new(),
        });
        let end = logs.get(log).map(Log::end).unwrap_or_default();
        restored.nameless.push(NamelessLog { log: log.0, topic: name, end: end.0 });
    }
}

/// A log begins where the snapshot says, or where what there is of it begins, if that is later.
fn put_starts(
    evidence: &Evidence,
    logs: &mut BTreeMap<LogId, Log>,
    named: &BTreeSet<LogId>,
    rows: &mut NewRows,
    restored: &mut Restored,
) {
    let remembered =
        |log: &LogId| evidence.remembered.as_ref().and_then(|all| all.log_starts.get(log).copied());
    for (id, log) in logs.iter_mut() {
        let start = remembered(id).unwrap_or_default();
        let mut walked = walk(start, log.state, &mut log.pieces);
        if walked.gaps.first().is_some_and(|(from, _)| *from == start) {
            let (from, to) = walked.gaps.remove(0);
            rows.put_log_start(*id, to);
            // Of a log that the snapshot knows, something may have been there.
            restored.later_starts.extend(named.contains(id).then(|| Offsets::new(*id, from, to)));
        }
        restored.gaps.extend(walked.gaps.iter().map(|(from, to)| Offsets::new(*id, *from, *to)));
        restored.overlaps.extend(walked.overlaps.iter().map(|(from, to, ..)| Offsets::new(*id, *from, *to)));
    }
    for log in named.iter().filter(|log| !logs.contains_key(log)) {
        // Nothing says where it ends: what the WAL has of it can't be told to continue it.
        let start = remembered(log).filter(|start| start.0 > 0);
        restored.unknown_ends.extend(start.map(|start| Offsets::new(*log, Offset(0), start)));
    }
}

fn put_incarnations(
    evidence: &Evidence,
    logs: &BTreeMap<LogId, Log>,
    named: &BTreeSet<LogId>,
    nameless: &BTreeSet<LogId>,
    window: u32,
    rows: &mut NewRows,
    restored: &mut Restored,
) {
    let all = named.iter().chain(nameless);
    let ends = all.map(|log| (*log, logs.get(log).map(Log::end).unwrap_or_default())).collect();
    let incarnations = wal::decide(evidence, &ends, window);
    incarnations.records.iter().for_each(|record| rows.put_incarnation(record));
    rows.set_owner(incarnations.owner);
    restored.wal = incarnations.report;
    restored.incarnations = incarnations.records.len() as u64;
    restored.doubtful = incarnations.doubtful.iter().map(ToString::to_string).collect();
}

fn put_counters(
    evidence: &Evidence,
    nameless: &BTreeSet<LogId>,
    rows: &mut NewRows,
    restored: &mut Restored,
) {
    let incarnations = evidence.listing.wal.keys().copied();
    let incarnations = incarnations.chain(evidence.listing.segments.keys().map(|id| id.incarnation));
    let broker_epochs = incarnations.map(|incarnation| incarnation.epoch.0).max().unwrap_or(0);
    let snapshots =
        evidence.remembered.as_ref().map_or(0, |all| all.snapshot.leader_epoch.0.unsigned_abs().into());
    let leader_epoch = u64::from(evidence.leader_epoch.0.unsigned_abs());
    let epoch = broker_epochs.max(leader_epoch).max(snapshots);
    let log = nameless.last().map_or(0, |log| log.0 + 1);
    let producer = evidence.producer.map_or(0, |id| id.0.unsigned_abs());
    let raised = rows
        .raise_epochs(epoch, EPOCH_MARGIN)
        .and_then(|()| rows.raise_logs(log, LOG_MARGIN))
        .and_then(|()| rows.raise_producers(producer, PRODUCER_MARGIN));
    if let Err(error) = raised {
        restored.unreadable.push(("a counter of the snapshot".into(), error.to_string()));
    }
}
