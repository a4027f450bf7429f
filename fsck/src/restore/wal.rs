//! What becomes of the incarnations. Pure.
//!
//! At most one can still have something to recover: ownership of the logs is only taken from who is recovered, so every owner before the last
//! was. The order of owners is that of the leader epochs in their batches. The last one is recorded as open, unless a snapshot or the manifest
//! of a recovery says otherwise; all others as recovered.
//!
//! Its trim point is the lowest sequence that holds a batch behind what the index has of a log: everything below is settled, or it
//! was never acknowledged. The take-over leaves out what does not continue a log, as after any crash.

use super::{
    evidence::{Evidence, WalData},
    report::WalRestored,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::{IncarnationRecord, IncarnationState, OwnerRecord};
use thalweg_segment::{Incarnation, LeaderEpoch, LogId, Offset, WalSequence};

/// What is recorded.
#[derive(Debug, Default)]
pub(crate) struct Incarnations {
    pub records: Vec<IncarnationRecord>,
    pub owner: Option<OwnerRecord>,
    pub report: Option<WalRestored>,
    /// Incarnations before the last owner's whose WAL holds batches that the index lacks.
    pub doubtful: Vec<Incarnation>,
}

/// Decides, given the restored ends of the logs that topics have.
pub(crate) fn decide(evidence: &Evidence, ends: &BTreeMap<LogId, Offset>, window: u32) -> Incarnations {
    let last = last_owner(evidence);
    let mut all = Incarnations::default();
    for incarnation in known(evidence) {
        let nothing = BTreeMap::new();
        let wal = evidence.wal.get(&incarnation).unwrap_or(&nothing);
        let unsettled: Vec<WalSequence> =
            wal.iter().filter(|(_, data)| holds_more(data, ends)).map(|(at, _)| *at).collect();
        let mut record = remembered(evidence, incarnation, window);
        match last.filter(|(owner, _)| *owner == incarnation) {
            Some((_, leader_epoch)) => {
                record.trim = unsettled.first().copied().unwrap_or_else(|| end_of(wal)).max(record.trim);
                record.window = record.window.max(least_window(record.trim, wal));
                record.state = IncarnationState::Open;
                all.owner = Some(OwnerRecord { incarnation, leader_epoch });
                all.report = Some(WalRestored::new(&record, leader_epoch, unsettled.len()));
            }
            None => {
                record.state = IncarnationState::Recovered;
                if !unsettled.is_empty() {
                    all.doubtful.push(incarnation);
                }
            }
        }
        all.records.push(record);
    }
    all
}

/// Everyone that left a trace.
fn known(evidence: &Evidence) -> BTreeSet<Incarnation> {
    let remembered = evidence.remembered.iter().flat_map(|all| all.incarnations.keys().copied());
    let wal = evidence.listing.wal.keys().copied();
    let segments = evidence.listing.segments.keys().map(|id| id.incarnation);
    remembered.chain(wal).chain(segments).collect()
}

/// The incarnation that owned the logs last, if its WAL holds batches and nothing says that it is recovered.
fn last_owner(evidence: &Evidence) -> Option<(Incarnation, LeaderEpoch)> {
    let epochs = evidence.wal.iter().filter_map(|(incarnation, wal)| {
        let epoch = wal.values().filter_map(|data| data.leader_epoch).max()?;
        Some((*incarnation, epoch))
    });
    epochs.max_by_key(|(_, epoch)| *epoch)
}

fn remembered(evidence: &Evidence, incarnation: Incarnation, window: u32) -> IncarnationRecord {
    let snapshot = evidence.remembered.as_ref();
    let windows = snapshot.into_iter().flat_map(|all| all.incarnations.values().map(|record| record.window));
    let unknown = || IncarnationRecord {
        incarnation,
        window: windows.max().unwrap_or(window).max(window),
        commit: 0,
        trim: WalSequence(0),
        state: IncarnationState::Recovered,
    };
    snapshot.and_then(|all| all.incarnations.get(&incarnation)).cloned().unwrap_or_else(unknown)
}

fn holds_more(data: &WalData, ends: &BTreeMap<LogId, Offset>) -> bool {
    data.ends.iter().any(|(log, end)| ends.get(log).is_some_and(|restored| end > restored))
}

fn end_of(wal: &BTreeMap<WalSequence, WalData>) -> WalSequence {
    wal.keys().next_back().map_or(WalSequence(0), |last| last.next())
}

/// No writer goes further than its window beyond what is missing: so what there is shows how wide it was at least.
fn least_window(trim: WalSequence, wal: &BTreeMap<WalSequence, WalData>) -> u32 {
    let missing = (trim.0..).find(|at| !wal.contains_key(&WalSequence(*at))).unwrap_or(trim.0);
    let beyond = end_of(wal).0.saturating_sub(missing);
    u32::try_from(beyond).unwrap_or(u32::MAX).min(MAX_WINDOW)
}

/// The widest that can be configured.
const MAX_WINDOW: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_segment::{BrokerEpoch, BrokerId};

    const LOG: LogId = LogId(5);

    fn incarnation(epoch: u64) -> Incarnation {
        Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(epoch) }
    }

    fn data(end: i64, epoch: i32) -> WalData {
        WalData { ends: [(LOG, Offset(end))].into(), leader_epoch: Some(LeaderEpoch(epoch)) }
    }

    /// An incarnation's epoch, its leader epoch, and its objects: sequence and the log's end there.
    type Life<'a> = (u64, i32, &'a [(u64, i64)]);

    fn evidence(wal: &[Life<'_>]) -> Evidence {
        let mut evidence = Evidence::default();
        for (epoch, leader, objects) in wal {
            let objects = objects.iter().map(|(at, end)| (WalSequence(*at), data(*end, *leader)));
            evidence.wal.insert(incarnation(*epoch), objects.collect());
            evidence.listing.wal.insert(incarnation(*epoch), BTreeMap::new());
        }
        evidence
    }

    fn decided(evidence: &Evidence, end: i64) -> Incarnations {
        decide(evidence, &[(LOG, Offset(end))].into(), 8)
    }

    fn open(all: &Incarnations) -> Vec<(u64, u64)> {
        let open = all.records.iter().filter(|record| record.state == IncarnationState::Open);
        open.map(|record| (record.incarnation.epoch.0, record.trim.0)).collect()
    }

    #[test]
    fn the_last_owner_is_open_from_its_first_batch_that_the_index_lacks() {
        let evidence = evidence(&[(3, 4, &[(7, 10), (8, 20), (9, 30)])]);
        let all = decided(&evidence, 10);
        assert_eq!(open(&all), [(3, 8)]);
        let owner = OwnerRecord { incarnation: incarnation(3), leader_epoch: LeaderEpoch(4) };
        assert_eq!(all.owner, Some(owner));
        assert_eq!(
            open(&decided(&evidence, 30)),
            [(3, 10)],
            "there is nothing to recover, but zombies are fenced"
        );
    }

    #[test]
    fn owners_are_ordered_by_their_leader_epochs_not_by_their_own() {
        let evidence = evidence(&[(3, 9, &[(0, 20)]), (5, 6, &[(0, 10)])]);
        let all = decided(&evidence, 10);
        assert_eq!(open(&all), [(3, 0)]);
        assert_eq!(all.doubtful, []);
        assert_eq!(
            decided(&evidence, 0).doubtful,
            [incarnation(5)],
            "an owner before the last lacks a batch"
        );
    }

    #[test]
    fn without_batches_in_any_wal_nobody_owns_the_logs() {
        let mut evidence = evidence(&[]);
        evidence.listing.wal.insert(incarnation(4), BTreeMap::new());
        let all = decided(&evidence, 0);
        assert_eq!((open(&all), all.owner, all.records.len()), (vec![], None, 1));
    }

    #[test]
    fn a_window_is_at_least_as_wide_as_what_was_written_behind_a_hole() {
        let evidence = evidence(&[(3, 4, &[(2, 10), (3, 20), (30, 30)])]);
        let all = decided(&evidence, 10);
        assert_eq!(all.records[0].trim, WalSequence(3));
        assert_eq!(all.records[0].window, 27, "4 is missing, 30 was written");
    }
}
