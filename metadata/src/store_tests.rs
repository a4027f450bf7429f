//! Each change of the typed layer, with its first transaction lost in each possible way.

use crate::{
    faults::{Fault, Faulty, runtime},
    *,
};
use std::collections::BTreeMap;
use thalweg_segment::{
    BrokerEpoch, BrokerId, Incarnation, LogId, Offset, ProducerId, SegmentId, WalSequence,
};
use uuid::Uuid;

const SHAPE: ObjectShape = ObjectShape { size: 300, index_position: 200, index_size: 80 };

fn store() -> (Faulty, Metadata) {
    let faulty = Faulty::planned(MemoryKv::new().open());
    (faulty.clone(), Metadata::new(std::sync::Arc::new(faulty), runtime(7)))
}

fn shared(incarnation: Incarnation, number: u64) -> SharedRecord {
    SharedRecord { id: SegmentId { incarnation, number }, shape: SHAPE, adopts: None }
}

fn manifest(recoverer: Incarnation, adopts: Incarnation) -> SharedRecord {
    SharedRecord { adopts: Some(adopts), ..shared(recoverer, 0) }
}

fn log_segment(id: SegmentId, log: u64) -> LogSegmentRecord {
    LogSegmentRecord {
        log: LogId(log),
        base_offset: Offset(0),
        end_offset: Offset(10),
        max_timestamp: 5,
        id,
        shape: SHAPE,
        cleaned_to: Offset(0),
    }
}

fn one_segment(record: &IncarnationRecord, number: u64) -> Commit {
    Commit {
        shared: Some(shared(record.incarnation, number)),
        trim: WalSequence(number + 1),
        ..Commit::default()
    }
}

fn many_segments(record: &IncarnationRecord) -> Commit {
    let id = |number| SegmentId { incarnation: record.incarnation, number };
    Commit {
        logs: (0..300).map(|log| log_segment(id(log + 1), log)).collect(),
        close: true,
        ..one_segment(record, 0)
    }
}

async fn open(metadata: &Metadata, broker: i32) -> IncarnationRecord {
    metadata.register(BrokerId(broker), 64).await.expect("the store answers")
}

fn kind<T: std::fmt::Debug>(result: Result<T, MetadataError>) -> MetadataErrorKind {
    result.expect_err("it must fail").kind()
}

fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[tokio::test(start_paused = true)]
async fn every_registration_has_an_epoch_of_its_own() {
    let (faulty, metadata) = store();
    let mut epochs = Vec::new();
    for fault in Fault::ALL {
        faulty.plan([fault]);
        let record = open(&metadata, 1).await;
        assert_eq!(record.state, IncarnationState::Open);
        assert_eq!(metadata.incarnation(record.incarnation).await.unwrap(), Some(record.clone()));
        epochs.push(record.incarnation.epoch);
    }
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?} must rise");
    let unrecovered = metadata.unrecovered().await.unwrap();
    assert!(unrecovered.len() >= 4, "a lost registration leaves an open record to be recovered");
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_in_the_index_whatever_happens_to_its_first_attempt() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let held = open(&metadata, 1).await;
        faulty.plan([fault]);
        let next = metadata.commit(&held, one_segment(&held, 0)).await.unwrap();
        assert_eq!((next.commit, next.trim, next.state), (1, WalSequence(1), IncarnationState::Open));
        assert_eq!(metadata.shared_records().await.unwrap(), [shared(held.incarnation, 0)]);
        assert_eq!(metadata.incarnation(held.incarnation).await.unwrap(), Some(next));
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_commit_trims_and_closes_in_its_last_transaction() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let held = open(&metadata, 1).await;
        faulty.plan([Fault::None, fault]);
        let last = metadata.commit(&held, many_segments(&held)).await.unwrap();
        assert_eq!((last.commit, last.trim, last.state), (3, WalSequence(1), IncarnationState::Recovered));
        assert_eq!(metadata.log_segment_records().await.unwrap().len(), 300);
        assert_eq!(metadata.unrecovered().await.unwrap(), []);
        assert_eq!(kind(metadata.commit(&last, Commit::default()).await), MetadataErrorKind::Fenced);
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_commit_that_gave_up_halfway_is_finished_by_repeating_it() {
    let (faulty, metadata) = store();
    let held = open(&metadata, 1).await;
    faulty.plan([Fault::None].into_iter().chain([Fault::LostRequest; 100]));
    assert_eq!(kind(metadata.commit(&held, many_segments(&held)).await), MetadataErrorKind::Retry);
    let half = metadata.incarnation(held.incarnation).await.unwrap().unwrap();
    assert_eq!((half.commit, half.trim, half.state), (1, WalSequence(0), IncarnationState::Open));
    faulty.clear();
    let last = metadata.commit(&held, many_segments(&held)).await.unwrap();
    assert_eq!(last.commit, 3);
    assert_eq!(metadata.commit(&held, many_segments(&held)).await.unwrap(), last, "and again");
}

#[tokio::test(start_paused = true)]
async fn another_commit_in_place_of_one_that_was_applied_is_refused() {
    let (_, metadata) = store();
    let held = open(&metadata, 1).await;
    let first = Commit { trim: WalSequence(5), ..one_segment(&held, 0) };
    metadata.commit(&held, first).await.unwrap();
    let other = Commit { trim: WalSequence(5), ..one_segment(&held, 1) };
    assert_eq!(kind(metadata.commit(&held, other).await), MetadataErrorKind::Conflict);
    let other = Commit { trim: WalSequence(6), ..one_segment(&held, 0) };
    assert_eq!(kind(metadata.commit(&held, other).await), MetadataErrorKind::Fenced);
}

#[tokio::test(start_paused = true)]
async fn the_trim_point_never_moves_down() {
    let (_, metadata) = store();
    let held = open(&metadata, 1).await;
    let held = metadata.commit(&held, one_segment(&held, 4)).await.unwrap();
    let held = metadata.commit(&held, Commit::default()).await.unwrap();
    assert_eq!((held.commit, held.trim), (2, WalSequence(5)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_after_a_raise() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let held = open(&metadata, 1).await;
        let held = metadata.commit(&held, one_segment(&held, 0)).await.unwrap();
        faulty.plan([fault]);
        metadata.confirm(&held).await.unwrap();
        faulty.plan([fault]);
        let raised = metadata.raise(held.incarnation, BrokerEpoch(9)).await.unwrap();
        let state = IncarnationState::Fencing { ballot: BrokerEpoch(9) };
        assert_eq!(raised, IncarnationRecord { state, ..held.clone() });
        faulty.plan([fault]);
        assert_eq!(kind(metadata.commit(&held, one_segment(&held, 1)).await), MetadataErrorKind::Fenced);
        assert_eq!(kind(metadata.take_ownership(&held).await), MetadataErrorKind::Fenced);
        assert_eq!(kind(metadata.confirm(&held).await), MetadataErrorKind::Fenced);
        let start = metadata.set_log_start(held.incarnation, LogId(1), Offset(5)).await;
        assert_eq!(kind(start), MetadataErrorKind::Fenced);
        assert_eq!(metadata.shared_records().await.unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_higher_ballot_takes_over_and_a_lower_one_is_told() {
    let (_, metadata) = store();
    let dead = open(&metadata, 1).await.incarnation;
    let five = metadata.raise(dead, BrokerEpoch(5)).await.unwrap();
    assert_eq!(metadata.raise(dead, BrokerEpoch(5)).await.unwrap(), five, "repeating is safe");
    let seven = metadata.raise(dead, BrokerEpoch(7)).await.unwrap();
    assert_eq!(kind(metadata.raise(dead, BrokerEpoch(5)).await), MetadataErrorKind::Conflict);
    assert_eq!(kind(metadata.adopt(&five, None).await), MetadataErrorKind::Conflict);
    metadata.adopt(&seven, None).await.unwrap();
    assert_eq!(kind(metadata.raise(dead, BrokerEpoch(9)).await), MetadataErrorKind::Conflict);
    let nobody = Incarnation { broker: BrokerId(9), epoch: BrokerEpoch(9) };
    assert_eq!(kind(metadata.raise(nobody, BrokerEpoch(9)).await), MetadataErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn an_adoption_is_done_once_whatever_happens_to_its_first_attempt() {
    for fault in Fault::ALL {
        for keeps in [true, false] {
            let (faulty, metadata) = store();
            let dead = open(&metadata, 1).await.incarnation;
            let recoverer = open(&metadata, 2).await.incarnation;
            let fencing = metadata.raise(dead, recoverer.epoch).await.unwrap();
            let manifest = keeps.then(|| manifest(recoverer, dead));
            faulty.plan([fault]);
            metadata.adopt(&fencing, manifest).await.unwrap();
            metadata.adopt(&fencing, manifest).await.unwrap();
            assert_eq!(metadata.shared_records().await.unwrap(), Vec::from_iter(manifest));
            let record = metadata.incarnation(dead).await.unwrap().unwrap();
            assert_eq!(record.state, IncarnationState::Recovered);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_recoverer_adopted_is_not_taken_for_ones_own() {
    let (_, metadata) = store();
    let dead = open(&metadata, 1).await.incarnation;
    let (first, second) = (open(&metadata, 2).await.incarnation, open(&metadata, 3).await.incarnation);
    let lower = metadata.raise(dead, first.epoch).await.unwrap();
    let higher = metadata.raise(dead, second.epoch).await.unwrap();
    metadata.adopt(&higher, Some(manifest(second, dead))).await.unwrap();
    assert_eq!(kind(metadata.adopt(&lower, Some(manifest(first, dead))).await), MetadataErrorKind::Conflict);
    assert_eq!(kind(metadata.adopt(&lower, None).await), MetadataErrorKind::Conflict);
    assert_eq!(metadata.shared_records().await.unwrap(), [manifest(second, dead)]);
}

#[tokio::test(start_paused = true)]
async fn ownership_passes_only_from_a_recovered_owner_and_raises_the_leader_epoch() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        assert_eq!(metadata.owner().await.unwrap(), None);
        let first = open(&metadata, 1).await;
        faulty.plan([fault]);
        let owner = metadata.take_ownership(&first).await.unwrap();
        assert_eq!(metadata.take_ownership(&first).await.unwrap(), owner, "it is owner once");
        let second = open(&metadata, 2).await;
        assert_eq!(kind(metadata.take_ownership(&second).await), MetadataErrorKind::Conflict);
        let fencing = metadata.raise(first.incarnation, second.incarnation.epoch).await.unwrap();
        metadata.adopt(&fencing, None).await.unwrap();
        faulty.plan([fault]);
        let next = metadata.take_ownership(&second).await.unwrap();
        assert!(next.leader_epoch > owner.leader_epoch);
        assert_eq!(metadata.owner().await.unwrap(), Some(next));
        assert_eq!(kind(metadata.take_ownership(&first).await), MetadataErrorKind::Fenced);
    }
}

#[tokio::test]
async fn who_still_sees_its_record_open_learns_by_a_write_that_another_has_opened_the_store() {
    let kv = MemoryKv::exclusive();
    let metadata = Metadata::new(kv.open(), runtime(7));
    let held = open(&metadata, 1).await;
    metadata.confirm(&held).await.unwrap();
    let _successor = kv.open();
    assert_eq!(kind(metadata.confirm(&held).await), MetadataErrorKind::Fenced);
}

#[tokio::test(start_paused = true)]
async fn topics_are_created_once_with_logs_that_nobody_else_has() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let other = metadata.create_topic("other", 3, BTreeMap::new()).await.unwrap();
        faulty.plan([fault]);
        let configs = settings(&[("retention.ms", "5")]);
        let topic = metadata.create_topic("topic", 2, configs).await.unwrap();
        assert_eq!(topic.partitions(), 2);
        let logs: Vec<_> = other.log_ids().chain(topic.log_ids()).collect();
        assert!(logs.is_sorted_by(|a, b| a < b), "{logs:?} are all different");
        let again = metadata.create_topic("topic", 2, BTreeMap::new()).await;
        assert_eq!(kind(again), MetadataErrorKind::Conflict);
        assert_eq!(metadata.topics().await.unwrap(), [other, topic]);
    }
}

#[tokio::test(start_paused = true)]
async fn many_topics_take_few_transactions_and_one_result_each() {
    let (faulty, metadata) = store();
    metadata.create_topic("topic-5", 1, BTreeMap::new()).await.unwrap();
    faulty.plan([Fault::LostAnswer, Fault::Late]);
    let new =
        |at: u32| NewTopic { name: format!("topic-{}", at % 150), partitions: 1, configs: BTreeMap::new() };
    let created = metadata.create_topics((0..151).map(new).collect()).await.unwrap();
    let refused: Vec<_> = (0..151).filter(|at| created[*at].is_err()).collect();
    assert_eq!(refused, [5, 150], "one existed, one was asked for twice");
    assert_eq!(metadata.topics().await.unwrap().len(), 150);
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_deleted_with_its_log_starts_and_only_if_it_is_the_one_meant() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let owner = open(&metadata, 1).await.incarnation;
        let (kept, gone) = (LogId(0), LogId(1));
        metadata.create_topic("kept", 1, BTreeMap::new()).await.unwrap();
        let topic = metadata.create_topic("gone", 1, BTreeMap::new()).await.unwrap();
        for log in [kept, gone] {
            metadata.set_log_start(owner, log, Offset(4)).await.unwrap();
        }
        let wrong = metadata.delete_topic("gone", Uuid::nil()).await;
        assert_eq!(kind(wrong), MetadataErrorKind::NotFound);
        faulty.plan([fault]);
        metadata.delete_topic("gone", topic.id).await.unwrap();
        assert_eq!(metadata.topics().await.unwrap().len(), 1);
        assert_eq!(metadata.log_starts().await.unwrap(), BTreeMap::from([(kept, Offset(4))]));
        assert_eq!(kind(metadata.delete_topic("gone", topic.id).await), MetadataErrorKind::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_are_added_once_and_only_to_what_the_caller_saw() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let topic = metadata.create_topic("topic", 2, BTreeMap::new()).await.unwrap();
        metadata.create_topic("other", 2, BTreeMap::new()).await.unwrap();
        faulty.plan([fault]);
        let grown = metadata.add_partitions(&topic, 5).await.unwrap();
        assert_eq!(Vec::from_iter(grown.log_ids()), [0, 1, 4, 5, 6].map(LogId));
        assert_eq!(metadata.topics().await.unwrap()[1], grown);
        assert_eq!(kind(metadata.add_partitions(&topic, 6).await), MetadataErrorKind::Conflict);
        assert_eq!(metadata.add_partitions(&grown, 5).await.unwrap(), grown);
        metadata.delete_topic("topic", topic.id).await.unwrap();
        assert_eq!(kind(metadata.add_partitions(&grown, 6).await), MetadataErrorKind::NotFound);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_are_replaced_only_where_they_are_what_the_caller_saw() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let topic = metadata.create_topic("topic", 1, BTreeMap::new()).await.unwrap();
        faulty.plan([fault]);
        let changed = metadata.set_topic_configs(&topic, settings(&[("a", "1")])).await.unwrap();
        assert_eq!(metadata.topics().await.unwrap(), [changed]);
        let stale = metadata.set_topic_configs(&topic, settings(&[("a", "2")])).await;
        assert_eq!(kind(stale), MetadataErrorKind::Conflict);

        let (none, one, two) = (settings(&[]), settings(&[("b", "1")]), settings(&[("b", "2")]));
        for broker in [None, Some(BrokerId(3))] {
            faulty.plan([fault]);
            metadata.set_broker_configs(broker, &none, one.clone()).await.unwrap();
            assert_eq!(metadata.broker_configs(broker).await.unwrap(), one);
            let stale = metadata.set_broker_configs(broker, &none, two.clone()).await;
            assert_eq!(kind(stale), MetadataErrorKind::Conflict);
            faulty.plan([fault]);
            metadata.set_broker_configs(broker, &one, none.clone()).await.unwrap();
            assert_eq!(metadata.broker_configs(broker).await.unwrap(), none);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn settings_of_groups_and_metrics_are_apart_and_compared() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let (none, one, two) = (settings(&[]), settings(&[("a", "1")]), settings(&[("a", "2")]));
        for kind in [ResourceKind::Group, ResourceKind::ClientMetrics] {
            assert_eq!(metadata.resource_configs(kind).await.unwrap(), BTreeMap::new());
            faulty.plan([fault]);
            metadata.set_resource_configs(kind, "x", &none, &one).await.unwrap();
            assert_eq!(
                metadata.resource_configs(kind).await.unwrap(),
                [("x".to_owned(), one.clone())].into()
            );
            let stale = metadata.set_resource_configs(kind, "x", &none, &two).await;
            assert_eq!(self::kind(stale), MetadataErrorKind::Conflict);
        }
        faulty.plan([fault]);
        metadata.set_resource_configs(ResourceKind::Group, "x", &one, &none).await.unwrap();
        assert_eq!(metadata.resource_configs(ResourceKind::Group).await.unwrap(), BTreeMap::new());
        assert_eq!(metadata.resource_configs(ResourceKind::ClientMetrics).await.unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn quotas_credentials_and_features_are_compared() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let entity = QuotaEntity { user: Some(Some("u".into())), client_id: Some(None), ip: None };
        let (none, some) =
            (QuotaRecord::default(), QuotaRecord { values: [("producer_byte_rate".into(), 1.5)].into() });
        faulty.plan([fault]);
        metadata.set_quotas(&entity, &none, &some).await.unwrap();
        assert_eq!(metadata.quotas().await.unwrap(), [(entity.clone(), some.clone())].into());
        let other = QuotaRecord { values: [("consumer_byte_rate".into(), 2.0)].into() };
        assert_eq!(kind(metadata.set_quotas(&entity, &none, &other).await), MetadataErrorKind::Conflict);
        metadata.set_quotas(&entity, &some, &none).await.unwrap();
        assert_eq!(metadata.quotas().await.unwrap(), BTreeMap::new());

        let credential = ScramRecord {
            iterations: 4096,
            salt: "salt".into(),
            stored_key: "stored".into(),
            server_key: "server".into(),
        };
        faulty.plan([fault]);
        metadata.set_scram_credential(2, "u", None, Some(&credential)).await.unwrap();
        let stored = metadata.scram_credentials().await.unwrap();
        assert_eq!(stored, [((2, "u".to_owned()), credential.clone())].into());
        let stale = metadata.set_scram_credential(2, "u", None, None).await;
        assert_eq!(kind(stale), MetadataErrorKind::Conflict);
        metadata.set_scram_credential(2, "u", Some(&credential), None).await.unwrap();
        assert_eq!(metadata.scram_credentials().await.unwrap(), BTreeMap::new());

        let (old, new) =
            (FeaturesRecord::default(), FeaturesRecord { epoch: 1, levels: [("f".into(), 2)].into() });
        assert_eq!(metadata.features().await.unwrap(), old);
        faulty.plan([fault]);
        metadata.set_features(&old, &new).await.unwrap();
        assert_eq!(metadata.features().await.unwrap(), new);
        let newer = FeaturesRecord { epoch: 2, ..new };
        assert_eq!(kind(metadata.set_features(&old, &newer).await), MetadataErrorKind::Conflict);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_start_only_rises() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let owner = open(&metadata, 1).await.incarnation;
        faulty.plan([fault]);
        metadata.set_log_start(owner, LogId(3), Offset(5)).await.unwrap();
        metadata.set_log_start(owner, LogId(3), Offset(2)).await.unwrap();
        metadata.set_log_start(owner, LogId(4), Offset(0)).await.unwrap();
        assert_eq!(metadata.log_starts().await.unwrap(), BTreeMap::from([(LogId(3), Offset(5))]));
    }
}

#[tokio::test(start_paused = true)]
async fn the_starts_of_many_logs_rise_together_whatever_happens_to_an_attempt() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let owner = open(&metadata, 1).await.incarnation;
        let starts = |offset| (0..200).map(|log| (LogId(log), Offset(offset))).collect::<Vec<_>>();
        metadata.set_log_start(owner, LogId(150), Offset(7)).await.unwrap();
        faulty.plan([Fault::None, fault]);
        metadata.set_log_starts(owner, &starts(5)).await.unwrap();
        metadata.set_log_starts(owner, &starts(3)).await.unwrap();
        let expected = (0..200).map(|log| (LogId(log), Offset(if log == 150 { 7 } else { 5 })));
        assert_eq!(metadata.log_starts().await.unwrap(), expected.collect());
        let recoverer = open(&metadata, 2).await.incarnation;
        metadata.raise(owner, recoverer.epoch).await.unwrap();
        assert_eq!(kind(metadata.set_log_starts(owner, &starts(9)).await), MetadataErrorKind::Fenced);
    }
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_given_away_once() {
    let (faulty, metadata) = store();
    let mut next = 0;
    for fault in Fault::ALL {
        faulty.plan([fault]);
        let ProducerId(first) = metadata.allocate_producer_ids(100).await.unwrap();
        assert!(first >= next, "{first} overlaps with what ends at {next}");
        next = first + 100;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_choice_of_a_cluster_id_stays() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        faulty.plan([fault]);
        let first = metadata.cluster_id(Uuid::from_u128(1)).await.unwrap();
        assert_eq!(first, Uuid::from_u128(1));
        assert_eq!(metadata.cluster_id(Uuid::from_u128(2)).await.unwrap(), first);
    }
}

#[tokio::test(start_paused = true)]
async fn reads_outlast_a_short_outage_and_report_a_long_one() {
    let (faulty, metadata) = store();
    faulty.fail_reads(5);
    assert_eq!(metadata.owner().await.unwrap(), None);
    faulty.fail_reads(1000);
    let began = tokio::time::Instant::now();
    assert_eq!(kind(metadata.topics().await), MetadataErrorKind::Retry);
    let waited = began.elapsed().as_secs();
    assert!((30..40).contains(&waited), "gave up after {waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_long_index_is_read_whole() {
    let (_, metadata) = store();
    let mut held = open(&metadata, 1).await;
    for number in 0..2000 {
        held = metadata.commit(&held, one_segment(&held, number)).await.unwrap();
    }
    let numbers = metadata.shared_records().await.unwrap().into_iter().map(|record| record.id.number);
    assert!(numbers.eq(0..2000));
}

#[tokio::test]
async fn a_fenced_store_is_told_from_an_unavailable_one() {
    let shared = MemoryKv::exclusive();
    let metadata = Metadata::new(shared.open(), runtime(1));
    let _newer = shared.open();
    assert_eq!(kind(metadata.register(BrokerId(1), 8).await), MetadataErrorKind::Fenced);
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_replaces_rows_whatever_happens_to_its_first_attempt() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let held = open(&metadata, 1).await;
        let id = |number| SegmentId { incarnation: held.incarnation, number };
        let flush = Commit { logs: vec![log_segment(id(1), 5)], ..one_segment(&held, 0) };
        let held = metadata.commit(&held, flush.clone()).await.unwrap();
        faulty.plan([fault]);
        let rewrite = Commit {
            logs: vec![log_segment(id(2), 5), log_segment(id(3), 6)],
            removed: flush.added().collect(),
            ..Commit::default()
        };
        let next = metadata.commit(&held, rewrite.clone()).await.unwrap();
        assert_eq!((next.commit, next.trim), (2, held.trim), "{fault:?}");
        assert_eq!(metadata.shared_records().await.unwrap(), []);
        assert_eq!(metadata.log_segment_records().await.unwrap(), rewrite.logs);
        faulty.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_of_a_row_that_was_replaced_before_changes_nothing() {
    for fault in Fault::ALL {
        let (faulty, metadata) = store();
        let held = open(&metadata, 1).await;
        let held = metadata.commit(&held, one_segment(&held, 0)).await.unwrap();
        let removed = vec![ObjectRecord::Shared(shared(held.incarnation, 0))];
        let rewrite = |number| Commit {
            shared: Some(shared(held.incarnation, number)),
            removed: removed.clone(),
            ..Commit::default()
        };
        let held = metadata.commit(&held, rewrite(1)).await.unwrap();
        faulty.plan([fault]);
        let refused = metadata.commit(&held, rewrite(2)).await;
        assert!(matches!(refused, Err(MetadataError::Stale { .. })), "{refused:?}");
        assert_eq!(metadata.shared_records().await.unwrap(), [shared(held.incarnation, 1)]);
        faulty.clear();
        let next = metadata.commit(&held, one_segment(&held, 3)).await.unwrap();
        assert_eq!(next.commit, held.commit + 1, "the incarnation goes on from the record that it holds");
    }
}

#[test]
fn a_rewrite_fits_as_long_as_it_is_one_transaction() {
    let id = |number| SegmentId { incarnation: Incarnation::default(), number };
    let rows = |count: u64| (0..count).map(|log| log_segment(id(log), log)).collect::<Vec<_>>();
    let removed = |count| rows(count).into_iter().map(ObjectRecord::Log).collect::<Vec<_>>();
    let fits = |added, removed_| {
        Commit { logs: rows(added), removed: removed(removed_), ..Commit::default() }.fits()
    };
    assert!(fits(126, 0) && fits(2, 62) && fits(0, 63));
    assert!(!fits(127, 0) && !fits(3, 62) && !fits(1, 63));
}
