//! One life of a transactional producer: from InitProducerId until it is fenced, gives up, or has done enough.

use super::{
    GROUP, INPUT, OUTPUT, OUTPUT_PARTITIONS, Workers,
    caller::{Caller, Failure, NO_ANSWER, Outcome, unless_error},
    ledger::TransactionNumber,
    member::{Member, State},
    text,
};
use std::collections::BTreeMap;
use thalweg_protocol::{Request, Response, messages::*};
use thalweg_segment::testing::BatchBuilder;
use tokio::time::sleep;

use add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use produce_request::{PartitionProduceData, TopicProduceData};
use txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};

/// Versions of the requests that speak one of the two protocols of transactions (KIP-890).
#[derive(Clone, Copy)]
enum Protocol {
    /// Partitions are added by requests of their own; the epoch stays from one transaction to the next. So what comes late may
    /// take effect in the next one, in Kafka as here: a client that has had no answer doesn't ask again, but begins a new session.
    Old,
    /// What is written joins its transaction, and each transaction has an epoch of its own.
    New,
}

impl Protocol {
    fn produce(self) -> i16 {
        if self.is_new() { 12 } else { 11 }
    }

    fn commit_offsets(self) -> i16 {
        if self.is_new() { 5 } else { 4 }
    }

    fn end(self) -> i16 {
        if self.is_new() { 5 } else { 4 }
    }

    fn is_new(self) -> bool {
        matches!(self, Self::New)
    }
}

/// A transactional producer.
pub struct Session {
    workers: Workers,
    name: String,
    id: TransactionalId,
    protocol: Protocol,
    producer: (i64, i16),
    /// Next sequence number by partition of the output.
    sequences: BTreeMap<i32, i32>,
    /// Partitions that the transaction has been told of, where that takes requests of its own.
    added: Vec<i32>,
    /// First number that has no effect yet.
    position: i64,
}

impl Session {
    /// Becomes the producer of `id`, and finds out how far the group is. None where that does not succeed.
    pub async fn begin(
        workers: &Workers,
        caller: &mut Caller,
        name: &str,
        id: &str,
        member: Option<&Member>,
    ) -> Option<Self> {
        let world = &workers.world;
        let protocol = if world.one_in(2) { Protocol::Old } else { Protocol::New };
        let id = TransactionalId(text(id));
        let timeout_ms = i32::try_from(world.random().range(1000..10_000)).expect("small");
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(timeout_ms);
        let producer = caller.ask(5, request, of_init).await.ok()?;
        let position = committed_offset(caller).await.ok()?;
        let (kind, generation) = (protocol.end(), member.map(Member::generation));
        world.event(format_args!("{name} is {producer:?} at {position}, EndTxn {kind}, {generation:?}"));
        Some(Self {
            workers: workers.clone(),
            name: name.to_owned(),
            id,
            protocol,
            producer,
            sequences: BTreeMap::new(),
            added: Vec::new(),
            position,
        })
    }

    /// Carries transactions out, until something comes between.
    pub async fn run(&mut self, caller: &mut Caller, mut member: Option<&mut Member>) {
        let world = self.workers.world.clone();
        for _ in 0..world.random().range(1..30) {
            if self.workers.stopped() {
                return;
            }
            if let Some(member) = member.as_deref_mut()
                && member.beat(caller).await != State::Stable
                // Every second one that is to join again has not noticed.
                && world.one_in(2)
            {
                return;
            }
            if let Err(failure) = self.transaction(caller, member.as_deref()).await {
                world.event(format_args!("{} ends its session: {failure:?}", self.name));
                // Where nothing is heard of it any more, its transaction takes too long.
                if matches!(failure, Failure::Refused(_)) && world.one_in(2) {
                    let _ = self.end(caller, false).await;
                }
                return;
            }
            sleep(world.millis(1, 300)).await;
        }
    }

    /// One transaction: the effects of some numbers, and the offset behind them.
    async fn transaction(&mut self, caller: &mut Caller, member: Option<&Member>) -> Result<(), Failure> {
        let world = self.workers.world.clone();
        let count = world.random().range(1..5) as i64;
        let transaction = self.workers.ledger.begins();
        let offset_first = world.one_in(3);
        if offset_first {
            self.commit_offset(caller, self.position + count, member).await?;
        }
        for number in self.position..self.position + count {
            let partition = world.random().range(0..OUTPUT_PARTITIONS as u64) as i32;
            self.produce(caller, transaction, number, partition).await?;
        }
        // For some so long that it is aborted, or that the member is taken for dead.
        if world.one_in(12) {
            sleep(world.millis(1000, 20_000)).await;
        }
        if world.one_in(5) {
            self.end(caller, false).await?;
            self.workers.ledger.ended(transaction, false);
            return Ok(());
        }
        if !offset_first {
            self.commit_offset(caller, self.position + count, member).await?;
        }
        self.workers.ledger.asks_to_commit(transaction);
        self.end(caller, true).await?;
        self.workers.ledger.ended(transaction, true);
        self.position += count;
        Ok(())
    }

    async fn produce(
        &mut self,
        caller: &mut Caller,
        transaction: TransactionNumber,
        number: i64,
        partition: i32,
    ) -> Result<(), Failure> {
        if !self.protocol.is_new() && !self.added.contains(&partition) {
            self.add_partition(caller, partition).await?;
        }
        let sequence = self.sequences.entry(partition).or_default();
        let (id, epoch) = self.producer;
        let batch = BatchBuilder::new()
            .producer(id, epoch, *sequence)
            .transactional()
            .record(number.to_string(), format!("{transaction} of {}", self.name));
        self.workers.ledger.sends(transaction, number, partition, batch.build().records());
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.bytes()));
        let topic = TopicProduceData::default().with_name(TopicName(text(OUTPUT)));
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id.clone()))
            .with_acks(-1)
            .with_timeout_ms(60_000)
            .with_topic_data(vec![topic.with_partition_data(vec![data])]);
        // Sent again, it is found out as a duplicate.
        caller.ask(self.protocol.produce(), request, of_produce).await?;
        *self.sequences.entry(partition).or_default() += 1;
        Ok(())
    }

    async fn add_partition(&mut self, caller: &mut Caller, partition: i32) -> Result<(), Failure> {
        let topic = AddPartitionsToTxnTopic::default().with_name(TopicName(text(OUTPUT)));
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id.clone())
            .with_v3_and_below_producer_id(self.producer.0.into())
            .with_v3_and_below_producer_epoch(self.producer.1)
            .with_v3_and_below_topics(vec![topic.with_partitions(vec![partition])]);
        caller.ask_once(3, request, of_add_partitions).await?;
        self.added.push(partition);
        Ok(())
    }

    async fn commit_offset(
        &mut self,
        caller: &mut Caller,
        offset: i64,
        member: Option<&Member>,
    ) -> Result<(), Failure> {
        if !self.protocol.is_new() {
            let request = AddOffsetsToTxnRequest::default()
                .with_transactional_id(self.id.clone())
                .with_producer_id(self.producer.0.into())
                .with_producer_epoch(self.producer.1)
                .with_group_id(GroupId(text(GROUP)));
            caller.ask_once(3, request, of_add_offsets).await?;
        }
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(TopicName(text(INPUT)));
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id.clone())
            .with_group_id(GroupId(text(GROUP)))
            .with_producer_id(self.producer.0.into())
            .with_producer_epoch(self.producer.1)
            .with_generation_id(member.map_or(-1, Member::generation))
            .with_member_id(member.map_or_else(StrBytes::default, |member| member.id().clone()))
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        let before = self.workers.ledger.newest_generation();
        self.ask(caller, self.protocol.commit_offsets(), request, of_commit).await?;
        if let Some(member) = member {
            self.workers.ledger.commit_accepted(member.generation(), member.id(), before);
        }
        Ok(())
    }

    /// Ends the transaction. What comes then is another one.
    async fn end(&mut self, caller: &mut Caller, commit: bool) -> Result<(), Failure> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.producer.0.into())
            .with_producer_epoch(self.producer.1)
            .with_committed(commit);
        let next = self.ask(caller, self.protocol.end(), request, of_end).await?;
        self.added.clear();
        if self.protocol.is_new() && next != self.producer {
            self.producer = next;
            self.sequences.clear();
        }
        Ok(())
    }

    async fn ask<T>(
        &self,
        caller: &mut Caller,
        version: i16,
        request: impl Into<Request>,
        take: impl Fn(Response) -> Outcome<T>,
    ) -> Result<T, Failure> {
        match self.protocol {
            Protocol::Old => caller.ask_once(version, request, take).await,
            Protocol::New => caller.ask(version, request, take).await,
        }
    }
}

/// How far the group is, once no open transaction can change that.
pub(super) async fn committed_offset(caller: &mut Caller) -> Result<i64, Failure> {
    let topic =
        OffsetFetchRequestTopics { name: text(INPUT), partition_indexes: vec![0], ..Default::default() };
    let group =
        OffsetFetchRequestGroup { group_id: text(GROUP), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    Ok(caller.ask(9, request, of_offset_fetch).await?.max(0))
}

fn of_init(response: Response) -> Outcome<(i64, i16)> {
    let Response::InitProducerId(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.error_code, (answer.producer_id.0, answer.producer_epoch))
}

fn of_produce(response: Response) -> Outcome<()> {
    let Response::Produce(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.responses[0].partition_responses[0].error_code, ())
}

fn of_add_partitions(response: Response) -> Outcome<()> {
    let Response::AddPartitionsToTxn(answer) = response else { return Err(NO_ANSWER) };
    let topic = &answer.results_by_topic_v3_and_below[0];
    unless_error(topic.results_by_partition[0].partition_error_code, ())
}

fn of_add_offsets(response: Response) -> Outcome<()> {
    let Response::AddOffsetsToTxn(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.error_code, ())
}

fn of_commit(response: Response) -> Outcome<()> {
    let Response::TxnOffsetCommit(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.topics[0].partitions[0].error_code, ())
}

fn of_end(response: Response) -> Outcome<(i64, i16)> {
    let Response::EndTxn(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.error_code, (answer.producer_id.0, answer.producer_epoch))
}

fn of_offset_fetch(response: Response) -> Outcome<i64> {
    let Response::OffsetFetch(answer) = response else { return Err(NO_ANSWER) };
    let group = &answer.groups[0];
    unless_error(group.error_code, ())?;
    let partition = &group.topics[0].partitions[0];
    unless_error(partition.error_code, partition.committed_offset)
}
