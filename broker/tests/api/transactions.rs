//! Transactions through whole frames, and over restarts of the broker.

use super::{
    bed::{Bed, answer, text},
    catalogue::{World, batch, fetch_offsets, fetch_request, produce_request},
    consumer_groups::alter,
    transaction_requests::*,
    versions::furnished_with,
};
use thalweg_broker::topics::TRANSACTIONS_TOPIC;
use thalweg_protocol::{ErrorCode, messages::*};

const ID: &str = "an-id";
/// First version of Produce that adds partitions by itself, by names; and the last that doesn't.
const ADDS: i16 = 12;
const VERIFIES: i16 = 11;

pub type Producer = (i64, i16);

/// A broker whose clients have found their coordinators.
async fn with_coordinators() -> (Bed, World) {
    let few = [
        ("transaction.state.log.num.partitions", "3"),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "50"),
    ];
    let (bed, world) = furnished_with(&few).await;
    for (kind, key) in [(0, "a-group"), (1, ID)] {
        let request =
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
        let found = answer!(bed.ask(6, request), FindCoordinator).coordinators.remove(0);
        assert_eq!(found.error_code, 0);
    }
    (bed, world)
}

pub async fn restarted(bed: Bed) -> Bed {
    // A life that goes on would write markers meanwhile.
    bed.broker.logs.close_all(thalweg_broker::partition::Closed::NotOwner);
    bed.restarted().await
}

const LATER: [ErrorCode; 2] = [ErrorCode::ConcurrentTransactions, ErrorCode::CoordinatorLoadInProgress];

pub fn is_for_later(code: i16) -> bool {
    LATER.iter().any(|later| later.code() == code)
}

/// A producer's id and epoch; waits for what goes before.
pub async fn init(bed: &Bed, timeout_ms: i32) -> Producer {
    loop {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(ID))))
            .with_transaction_timeout_ms(timeout_ms);
        let answer = answer!(bed.ask(5, request), InitProducerId);
        match answer.error_code {
            0 => return (answer.producer_id.0, answer.producer_epoch),
            code if is_for_later(code) => tokio::task::yield_now().await,
            code => panic!("{code}"),
        }
    }
}

/// Waits for the transaction before, as clients do.
async fn produce(bed: &Bed, world: &World, version: i16, producer: Producer, sequence: i32) -> i16 {
    loop {
        let records = batch().producer(producer.0, producer.1, sequence).transactional().bytes();
        let request = produce_request(version, world, 0, Some(records))
            .with_transactional_id(Some(TransactionalId(text(ID))));
        let answer = answer!(bed.ask(version, request), Produce);
        match answer.responses[0].partition_responses[0].error_code {
            code if is_for_later(code) => tokio::task::yield_now().await,
            code => return code,
        }
    }
}

pub async fn end(bed: &Bed, version: i16, producer: Producer, commit: bool) -> (i16, Producer) {
    loop {
        let answer = answer!(bed.ask(version, end_request(ID, producer, commit)), EndTxn);
        if !is_for_later(answer.error_code) {
            return (answer.error_code, (answer.producer_id.0, answer.producer_epoch));
        }
        tokio::task::yield_now().await;
    }
}

/// What a reader sees: the high watermark, the last stable offset, bytes, and who aborted from which offset.
async fn read(bed: &Bed, world: &World, committed: bool) -> (i64, i64, usize, Vec<(i64, i64)>) {
    let request = fetch_request(12, world, 0, 0).with_isolation_level(committed.into());
    let mut fetched = answer!(bed.ask(12, request), Fetch);
    let partition = fetched.topics.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, 0);
    let aborted = partition.aborted_transactions.unwrap_or_default();
    let aborted = aborted.iter().map(|one| (one.producer_id.0, one.first_offset));
    let bytes = partition.records.iter().map(|chunk| chunk.len()).sum();
    (partition.high_watermark, partition.last_stable_offset, bytes, aborted.collect())
}

pub async fn until_stable(bed: &Bed, world: &World, end: i64) {
    while read(bed, world, true).await.1 < end {
        tokio::task::yield_now().await;
    }
}

async fn described(bed: &Bed) -> String {
    loop {
        let mut answer = answer!(bed.ask(0, describe_request(ID)), DescribeTransactions);
        let state = answer.transaction_states.remove(0);
        if !is_for_later(state.error_code) {
            return state.transaction_state.to_string();
        }
        tokio::task::yield_now().await;
    }
}

async fn committed(bed: &Bed, world: &World, stable: bool) -> (i16, i64) {
    loop {
        let request = OffsetFetchRequest { require_stable: stable, ..fetch_offsets(9, world, Some(&[0])) };
        let mut fetched = answer!(bed.ask(9, request), OffsetFetch);
        let group = fetched.groups.remove(0);
        if group.error_code == 0 {
            let partition = &group.topics[0].partitions[0];
            return (partition.error_code, partition.committed_offset);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn readers_of_committed_data_see_what_was_committed_and_are_told_what_was_aborted() {
    let (bed, world) = with_coordinators().await;
    let first = init(&bed, 60_000).await;
    assert_eq!(produce(&bed, &world, ADDS, first, 0).await, 0);
    let (high, stable, bytes, _) = read(&bed, &world, true).await;
    assert_eq!((high, stable, bytes), (2, 0, 0), "nothing of an open transaction");
    assert!(read(&bed, &world, false).await.2 > 0);
    assert_eq!(described(&bed).await, "Ongoing");

    let (code, second) = end(&bed, 5, first, false).await;
    assert_eq!((code, second), (0, (first.0, first.1 + 1)));
    until_stable(&bed, &world, 3).await;
    assert_eq!(read(&bed, &world, true).await.3, [(first.0, 0)]);
    assert_eq!(
        produce(&bed, &world, ADDS, first, 2).await,
        ErrorCode::InvalidProducerEpoch.code(),
        "a zombie"
    );

    assert_eq!(produce(&bed, &world, ADDS, second, 0).await, 0);
    assert_eq!(end(&bed, 5, second, true).await.0, 0);
    until_stable(&bed, &world, 6).await;
    let told = read(&bed, &world, true).await;
    assert_eq!((told.0, told.1, &told.3[..]), (6, 6, &[(first.0, 0)][..]));
    let request = describe_producers_request(world.there, &[0]);
    let known = answer!(bed.ask(0, request), DescribeProducers).topics.remove(0).partitions.remove(0);
    let producer = &known.active_producers[0];
    assert_eq!((producer.producer_epoch, producer.current_txn_start_offset), (2, -1));

    // From the object store it is the same.
    let bed = restarted(bed).await;
    assert_eq!(read(&bed, &world, true).await, told);
    // The markers were durable; that they are may have to be found out again.
    while described(&bed).await != "CompleteCommit" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_old_client_adds_its_partitions_before_it_writes_to_them() {
    let (bed, world) = with_coordinators().await;
    let producer = init(&bed, 60_000).await;
    assert_eq!(produce(&bed, &world, VERIFIES, producer, 0).await, ErrorCode::TransactionAbortable.code());
    assert_eq!(produce(&bed, &world, 9, producer, 0).await, ErrorCode::InvalidTxnState.code());
    let add = add_partitions_request(3, &world, ID, producer, &[0]);
    let added = answer!(bed.ask(3, add), AddPartitionsToTxn);
    assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
    assert_eq!(produce(&bed, &world, 9, producer, 0).await, 0);
    assert_eq!(end(&bed, 4, producer, true).await.0, 0);
    until_stable(&bed, &world, 3).await;
    // The epoch is the same, so the coordinator alone can tell what comes too late.
    assert_ne!(produce(&bed, &world, 9, producer, 2).await, 0);
    assert_eq!(read(&bed, &world, true).await.1, 3);
}

#[tokio::test]
async fn offsets_count_when_their_transaction_is_committed() {
    let (bed, world) = with_coordinators().await;
    let mut producer = init(&bed, 60_000).await;
    for (offset, commit, expected) in [(5, false, -1), (6, true, 6)] {
        let request = commit_offsets_request(5, &world, ID, producer, offset);
        let answer = answer!(bed.ask(5, request), TxnOffsetCommit);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
        assert_eq!(committed(&bed, &world, true).await, (ErrorCode::UnstableOffsetCommit.code(), -1));
        assert_eq!(committed(&bed, &world, false).await, (0, -1));
        let (code, next) = end(&bed, 5, producer, commit).await;
        assert_eq!(code, 0);
        producer = next;
        while committed(&bed, &world, true).await.0 != 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(committed(&bed, &world, true).await, (0, expected));
    }
    let bed = restarted(bed).await;
    assert_eq!(committed(&bed, &world, true).await, (0, 6));
    let none = commit_offsets_request(4, &world, ID, producer, 9);
    let refused = answer!(bed.ask(4, none), TxnOffsetCommit);
    assert_ne!(refused.topics[0].partitions[0].error_code, 0);
}

async fn commit_offset(bed: &Bed, world: &World, producer: Producer, offset: i64) -> i16 {
    loop {
        let request = commit_offsets_request(5, world, ID, producer, offset);
        match answer!(bed.ask(5, request), TxnOffsetCommit).topics[0].partitions[0].error_code {
            code if is_for_later(code) => tokio::task::yield_now().await,
            code => return code,
        }
    }
}

#[tokio::test]
async fn what_comes_while_the_transaction_before_ends_waits_and_is_not_refused_for_its_markers() {
    let (bed, world) = with_coordinators().await;
    let first = init(&bed, 60_000).await;
    assert_eq!(produce(&bed, &world, ADDS, first, 0).await, 0);
    assert_eq!(commit_offset(&bed, &world, first, 1).await, 0);
    // A client that was told so before a crash knows its next epoch while the end is still carried out.
    let next = (first.0, first.1 + 1);
    let (ended, produced, committed) = tokio::join!(
        end(&bed, 5, first, true),
        produce(&bed, &world, ADDS, next, 0),
        commit_offset(&bed, &world, next, 2),
    );
    assert_eq!((ended, produced, committed), ((0, next), 0, 0));
}

#[tokio::test]
async fn what_was_decided_before_a_restart_is_carried_out_after_it() {
    let (bed, world) = with_coordinators().await;
    let producer = init(&bed, 60_000).await;
    assert_eq!(produce(&bed, &world, ADDS, producer, 0).await, 0);
    assert_eq!(end(&bed, 5, producer, true).await.0, 0);
    // Whether or not the markers are there.
    let bed = restarted(bed).await;
    until_stable(&bed, &world, 3).await;
    assert!(read(&bed, &world, true).await.3.is_empty());
    // What wasn't decided is as open as before.
    let next = init(&bed, 60_000).await;
    assert_eq!(produce(&bed, &world, ADDS, next, 0).await, 0);
    let open = read(&bed, &world, true).await.1;
    let bed = restarted(bed).await;
    assert_eq!(read(&bed, &world, true).await.1, open);
    assert_eq!(described(&bed).await, "Ongoing");
    // Until somebody takes the id over.
    let newest = init(&bed, 60_000).await;
    assert!(newest.1 > next.1);
    until_stable(&bed, &world, open + 3).await;
    assert_eq!(read(&bed, &world, true).await.3, [(next.0, open)]);
}

#[tokio::test]
async fn an_end_that_cannot_be_stored_is_refused_and_can_be_asked_for_again() {
    let (bed, world) = with_coordinators().await;
    let producer = init(&bed, 60_000).await;
    assert_eq!(produce(&bed, &world, ADDS, producer, 0).await, 0);
    // No record of a transaction fits into so little.
    alter(&bed, 2, TRANSACTIONS_TOPIC, "max.message.bytes", "100").await;
    let bed = restarted(bed).await;
    assert_eq!(end(&bed, 5, producer, true).await.0, ErrorCode::UnknownServerError.code());
    assert_eq!(described(&bed).await, "Ongoing");
    alter(&bed, 2, TRANSACTIONS_TOPIC, "max.message.bytes", "1000000").await;
    let bed = restarted(bed).await;
    assert_eq!(end(&bed, 5, producer, true).await.0, 0);
    until_stable(&bed, &world, 3).await;
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let (bed, world) = with_coordinators().await;
    let producer = init(&bed, 1).await;
    assert_eq!(produce(&bed, &world, ADDS, producer, 0).await, 0);
    until_stable(&bed, &world, 3).await;
    assert_eq!(read(&bed, &world, true).await.3, [(producer.0, 0)]);
    assert_eq!(end(&bed, 5, producer, true).await.0, ErrorCode::InvalidTxnState.code());
}
