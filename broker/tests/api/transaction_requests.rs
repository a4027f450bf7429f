//! Requests of transactions, in all their versions.

use super::{
    bed::{text, topic},
    catalogue::World,
};
use thalweg_protocol::messages::*;

type Named<T> = Vec<(&'static str, T)>;

/// Adds partition 0 of the world's topic.
pub fn add_partitions_request(
    version: i16,
    world: &World,
    id: &str,
    producer: (i64, i16),
    partitions: &[i32],
) -> AddPartitionsToTxnRequest {
    use add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
    let topics = vec![
        AddPartitionsToTxnTopic::default().with_name(topic(world.there)).with_partitions(partitions.into()),
    ];
    let request = AddPartitionsToTxnRequest::default();
    match version >= 4 {
        false => request
            .with_v3_and_below_transactional_id(TransactionalId(text(id)))
            .with_v3_and_below_producer_id(producer.0.into())
            .with_v3_and_below_producer_epoch(producer.1)
            .with_v3_and_below_topics(topics),
        true => request.with_transactions(vec![
            AddPartitionsToTxnTransaction::default()
                .with_transactional_id(TransactionalId(text(id)))
                .with_producer_id(producer.0.into())
                .with_producer_epoch(producer.1)
                .with_topics(topics),
        ]),
    }
}

pub fn add_partitions(version: i16, world: &World) -> Named<AddPartitionsToTxnRequest> {
    let elsewhere = World { there: "nowhere", ..world.clone() };
    let of = |world: &World, id: &str, partitions: &[i32]| {
        add_partitions_request(version, world, id, (1, 0), partitions)
    };
    let mut requests = vec![
        ("an unknown id", of(world, "unknown", &[0])),
        ("no id", of(world, "", &[0])),
        ("no such topic", of(&elsewhere, "unknown", &[0])),
        ("one partition that isn't there", of(world, "unknown", &[0, 9])),
        ("no partitions", of(world, "unknown", &[])),
    ];
    if version >= 4 {
        let mut verify = of(world, "unknown", &[0]);
        verify.transactions[0].verify_only = true;
        requests.push(("only to verify", verify));
    }
    requests
}

pub fn add_offsets() -> Named<AddOffsetsToTxnRequest> {
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(TransactionalId(text("unknown")))
        .with_group_id(GroupId(text("a-group")));
    vec![
        ("an unknown id", request.clone()),
        ("no id", request.with_transactional_id(TransactionalId(text("")))),
    ]
}

pub fn end_request(id: &str, producer: (i64, i16), commit: bool) -> EndTxnRequest {
    EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_producer_id(producer.0.into())
        .with_producer_epoch(producer.1)
        .with_committed(commit)
}

pub fn end() -> Named<EndTxnRequest> {
    vec![("an unknown id", end_request("unknown", (1, 0), true)), ("no id", end_request("", (1, 0), false))]
}

pub fn write_markers(version: i16, world: &World) -> Named<WriteTxnMarkersRequest> {
    use write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
    let of = |name: &str, partitions: &[i32]| WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: 900_000,
            producer_epoch: 1,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic { name: text(name), partition_indexes: partitions.into() }],
            coordinator_epoch: 0,
            transaction_version: if version >= 2 { 2 } else { 0 },
        }],
    };
    vec![
        ("a partition", of(world.there, &[0])),
        ("one that isn't there", of(world.there, &[0, 9])),
        ("no such topic", of("nowhere", &[0])),
        ("no markers", WriteTxnMarkersRequest { markers: Vec::new() }),
    ]
}

pub fn commit_offsets_request(
    version: i16,
    world: &World,
    id: &str,
    producer: (i64, i16),
    offset: i64,
) -> TxnOffsetCommitRequest {
    use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topics = TxnOffsetCommitRequestTopic::default().with_name(topic(world.there));
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(id)))
        .with_group_id(GroupId(text("a-group")))
        .with_producer_id(producer.0.into())
        .with_producer_epoch(producer.1)
        .with_topics(vec![topics.with_partitions(vec![partition])]);
    if version >= 3 { request.with_generation_id(-1) } else { request }
}

pub fn commit_offsets(version: i16, world: &World) -> Named<TxnOffsetCommitRequest> {
    let elsewhere = World { there: "nowhere", ..world.clone() };
    vec![
        ("an unknown id", commit_offsets_request(version, world, "unknown", (1, 0), 5)),
        ("no such topic", commit_offsets_request(version, &elsewhere, "unknown", (1, 0), 5)),
        ("no group", {
            let request = commit_offsets_request(version, world, "unknown", (1, 0), 5);
            request.with_group_id(GroupId(text("")))
        }),
    ]
}

pub fn describe_producers_request(name: &str, partitions: &[i32]) -> DescribeProducersRequest {
    let wanted = describe_producers_request::TopicRequest::default().with_name(topic(name));
    DescribeProducersRequest::default().with_topics(vec![wanted.with_partition_indexes(partitions.into())])
}

pub fn describe_producers(world: &World) -> Named<DescribeProducersRequest> {
    vec![
        ("two partitions", describe_producers_request(world.there, &[0, 1])),
        ("no such partition", describe_producers_request(world.there, &[9])),
        ("no such topic", describe_producers_request("nowhere", &[0])),
        ("a name that none can have", describe_producers_request("a b", &[0])),
    ]
}

pub fn describe_request(id: &str) -> DescribeTransactionsRequest {
    DescribeTransactionsRequest::default().with_transactional_ids(vec![TransactionalId(text(id))])
}

pub fn describe() -> Named<DescribeTransactionsRequest> {
    vec![
        ("an unknown id", describe_request("unknown")),
        ("no id", describe_request("")),
        ("none", DescribeTransactionsRequest::default()),
    ]
}

pub fn list(version: i16) -> Named<ListTransactionsRequest> {
    let request = ListTransactionsRequest::default();
    let states = ["Ongoing", "Nonsense"].map(text);
    let mut requests = vec![
        ("everything", request.clone()),
        ("by state", request.clone().with_state_filters(states.into())),
        ("by producer", request.clone().with_producer_id_filters(vec![1.into()])),
    ];
    if version >= 1 {
        requests.push(("by duration", request.clone().with_duration_filter(1000)));
    }
    if version >= 2 {
        requests.push(("by pattern", request.clone().with_transactional_id_pattern(Some(text("an-.*")))));
        requests.push(("by a wrong pattern", request.with_transactional_id_pattern(Some(text("(")))));
    }
    requests
}
