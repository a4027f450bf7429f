//! Fetch: finds what the session wants, reads it, waits for more where there is too little.

use super::{Answer, Handlers, named_once::named_once};
use crate::{
    context::{Operation, QuotaKind, RequestContext},
    fetch_sessions::{SessionError, Wanted},
    partition::{Closed, Log, LogView},
    reading::Slices,
    topics::Topic,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use thalweg_cache::MAX_READ_BYTES;
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_runtime::Charge;
use thalweg_segment::{LeaderEpoch, LogId, Offset};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

/// First version with sessions.
const SESSIONS: i16 = 7;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// First version that tells the leader to who takes another for it (KIP-951).
const LEADERS: i16 = 16;

/// What a whole request asks for.
struct Demand {
    max_bytes: usize,
    /// Fewer bytes than none are wanted.
    negative: bool,
    committed_only: bool,
    /// It is a replica that asks: there are none.
    by_replica: bool,
    /// The answer may say who leads.
    names_leader: bool,
    deadline: Instant,
    min_bytes: usize,
}

/// One round of reading all partitions.
#[derive(Default)]
struct Round {
    partitions: Vec<FetchedPartition>,
    held: Vec<Charge>,
    bytes: usize,
    /// An error, or a divergence, is answered at once.
    urgent: bool,
}

/// What a partition has for a reader.
struct Isolated {
    slices: Slices,
    charge: Charge,
    /// Told where the reader wants committed data, and some of this is part of a transaction.
    aborted: Option<Vec<AbortedTransaction>>,
}

impl Handlers {
    pub(super) async fn fetch(
        &self,
        context: &RequestContext,
        version: i16,
        request: FetchRequest,
    ) -> Answer {
        if ![0, 1].contains(&request.isolation_level) {
            return refused(version, request).into();
        }
        let demand = self.demand(version, &request);
        let by_ids = version >= TOPIC_IDS;
        let session = if version >= SESSIONS { (request.session_id, request.session_epoch) } else { (0, -1) };
        let (wanted, forgotten) = partitions_of(request);
        let fresh = (self.broker.runtime.random().u64() >> 33) as i32;
        let resolved = match self.broker.sessions.resolve(session, by_ids, wanted, forgotten, fresh) {
            Ok(resolved) => resolved,
            Err(error) => return session_error(error).into(),
        };
        let targets = self.targets(context, by_ids, &resolved.wanted);
        let round = self.read_until_enough(&targets, &resolved.wanted, &demand).await;
        let throttle = self.quotas.record(context, QuotaKind::Fetch, round.bytes as u64);
        let fetched = resolved.wanted.iter().zip(round.partitions).zip(&targets);
        // What isn't there, or isn't allowed, is told last.
        let (there, not_there): (Vec<_>, Vec<_>) = fetched.partition(|(_, target)| target.is_ok());
        let fetched = there.into_iter().chain(not_there).map(|(fetched, _)| fetched);
        let told = fetched.filter(|(wanted, partition)| {
            let news = self.broker.sessions.told(
                resolved.id,
                wanted,
                partition.high_watermark,
                partition.log_start_offset,
                !partition.records.is_empty(),
            );
            !resolved.incremental || news || partition.error_code != 0 || partition.diverging_epoch.is_some()
        });
        let told: Vec<_> = told.collect();
        let is_nameless = |(wanted, _): &(&Wanted, _)| by_ids && wanted.topic_id.is_nil();
        if told.iter().rev().skip(1).any(is_nameless) {
            // Kafka compares its name with that of the next one, and fails inside.
            return failed(session.0).into();
        }
        let topics = group(told.into_iter());
        let response = FetchResponse {
            throttle_time_ms: i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX),
            session_id: resolved.id,
            topics,
            ..FetchResponse::default()
        };
        Answer { response: Some(response.into()), held: round.held, close: None }
    }

    fn demand(&self, version: i16, request: &FetchRequest) -> Demand {
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
        let limit = self.broker.dynamic().fetch_max_bytes;
        let max_bytes = if version >= 3 { max_bytes.min(limit) } else { limit };
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Demand {
            max_bytes,
            negative: version >= 3 && request.max_bytes < 0,
            committed_only: request.isolation_level == 1,
            by_replica: request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0,
            names_leader: version >= LEADERS,
            deadline: Instant::now() + wait,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        }
    }

    /// The log of each wanted partition, or why it can't be read.
    fn targets(
        &self,
        context: &RequestContext,
        by_ids: bool,
        wanted: &[Wanted],
    ) -> Vec<Result<Arc<Log>, ErrorCode>> {
        let mut last: Option<(String, Uuid, Result<Arc<Topic>, ErrorCode>)> = None;
        let mut targets = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let same =
                last.as_ref().is_some_and(|(name, id, _)| *name == wanted.topic && *id == wanted.topic_id);
            if !same {
                let topic = self.fetch_topic(context, by_ids, wanted);
                last = Some((wanted.topic.clone(), wanted.topic_id, topic));
            }
            let topic =
                last.as_ref().map_or(Err(ErrorCode::UnknownServerError), |(_, _, topic)| topic.clone());
            targets.push(topic.and_then(|topic| {
                topic.log(wanted.partition).cloned().ok_or(ErrorCode::UnknownTopicOrPartition)
            }));
        }
        targets
    }

    fn fetch_topic(
        &self,
        context: &RequestContext,
        by_ids: bool,
        wanted: &Wanted,
    ) -> Result<Arc<Topic>, ErrorCode> {
        let topics = &self.broker.topics;
        let topic = match by_ids {
            true => topics.by_id(wanted.topic_id).ok_or(ErrorCode::UnknownTopicId)?,
            false => topics.by_name(&wanted.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?,
        };
        match self.allows_topic(context, Operation::Read, topic.name()) {
            true => Ok(topic),
            false => Err(ErrorCode::TopicAuthorizationFailed),
        }
    }

    /// Reads in rounds: again whenever one of the logs has news, until there is enough, an error, or no time left.
    async fn read_until_enough(
        &self,
        targets: &[Result<Arc<Log>, ErrorCode>],
        wanted: &[Wanted],
        demand: &Demand,
    ) -> Round {
        let news = Arc::new(Notify::new());
        let logs: BTreeSet<LogId> = targets.iter().flatten().map(|log| log.id()).collect();
        let waits = demand.min_bytes > 0 && !logs.is_empty() && Instant::now() < demand.deadline;
        if waits {
            // Before the read, so that nothing that becomes durable after it is missed.
            targets.iter().flatten().for_each(|log| log.watch(&news));
        }
        loop {
            let round = self.read_round(targets, wanted, demand).await;
            if !waits || round.urgent || round.bytes >= demand.min_bytes {
                return round;
            }
            drop(round);
            if tokio::time::timeout_at(demand.deadline, news.notified()).await.is_err() {
                return self.read_round(targets, wanted, demand).await;
            }
        }
    }

    async fn read_round(
        &self,
        targets: &[Result<Arc<Log>, ErrorCode>],
        wanted: &[Wanted],
        demand: &Demand,
    ) -> Round {
        let mut round = Round::default();
        for (target, wanted) in targets.iter().zip(wanted) {
            let partition = match target {
                Ok(log) => self.read_partition(log, wanted, demand, &mut round).await,
                Err(code) => Ok(unknown(*code)),
            };
            let partition = partition.unwrap_or_else(|code| {
                let refused = FetchedPartition { error_code: code.code(), ..FetchedPartition::default() };
                match target {
                    Ok(log) if demand.names_leader => self.with_leader(log, refused),
                    _ => refused,
                }
            });
            round.urgent |= partition.error_code != 0 || partition.diverging_epoch.is_some();
            round.partitions.push(FetchedPartition { partition_index: wanted.partition, ..partition });
        }
        round
    }

    /// With the leader, who is this broker, for who takes another, or an older epoch, for it.
    fn with_leader(&self, log: &Log, mut refused: FetchedPartition) -> FetchedPartition {
        let told = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch].map(ErrorCode::code);
        if told.contains(&refused.error_code) && log.closed().is_none() {
            let leader = LeaderIdAndEpoch::default().with_leader_id(self.broker.settings.broker.0.into());
            refused.current_leader = Some(leader.with_leader_epoch(log.leader_epoch().0));
        }
        refused
    }

    async fn read_partition(
        &self,
        log: &Log,
        wanted: &Wanted,
        demand: &Demand,
        round: &mut Round,
    ) -> Result<FetchedPartition, ErrorCode> {
        check_epoch(log, wanted.current_leader_epoch)?;
        if demand.by_replica {
            // One that knows the epoch might know more than this broker, Kafka thinks.
            return Err(match wanted.current_leader_epoch {
                -1 => ErrorCode::NotLeaderOrFollower,
                _ => ErrorCode::UnknownLeaderEpoch,
            });
        }
        let view = log.view();
        let mut partition = described(&view);
        if let Some(diverging) = diverging_epoch(log, wanted)? {
            partition.diverging_epoch = Some(diverging);
            return Ok(partition);
        }
        if wanted.offset < view.start || wanted.offset > view.end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let limit = if demand.committed_only { view.last_stable } else { view.high_watermark };
        if (demand.negative || wanted.max_bytes < 0) && wanted.offset < view.end {
            // What Kafka makes of less than no bytes.
            return Err(ErrorCode::UnknownServerError);
        }
        let left = demand.max_bytes.saturating_sub(round.bytes);
        let max_bytes = left.min(usize::try_from(wanted.max_bytes).unwrap_or(0));
        // The first batch of a response is returned however large, so that a consumer can always go on (KIP-74).
        let at_least_one = round.bytes == 0;
        if max_bytes == 0 && !at_least_one {
            return Ok(partition);
        }
        if wanted.offset < limit
            && let Some(isolated) =
                self.read_isolated(log, wanted.offset, limit, max_bytes, at_least_one, demand).await?
        {
            round.bytes += isolated.slices.len;
            round.held.push(isolated.charge);
            round.held.extend(isolated.slices.held);
            partition.records = isolated.slices.chunks;
            partition.aborted_transactions = isolated.aborted;
        }
        if demand.committed_only {
            partition.aborted_transactions.get_or_insert_default();
        }
        Ok(partition)
    }

    /// Reads what there is room for, and for a reader of committed data who of it was aborted. Both from the same side of every
    /// rewrite of the log: cleaning removes aborted records, and with them what the index tells of them.
    async fn read_isolated(
        &self,
        log: &Log,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        first: bool,
        demand: &Demand,
    ) -> Result<Option<Isolated>, ErrorCode> {
        let index = self.broker.topics.index();
        loop {
            let rewrites = index.rewrites(log.id());
            let read = self.read_charged(log, from, limit, max_bytes, first).await?;
            let Some((slices, charge)) = read else { return Ok(None) };
            if !demand.committed_only || !slices.transactional {
                return Ok(Some(Isolated { slices, charge, aborted: None }));
            }
            let aborted = self.broker.aborted(log, from, slices.end).await;
            let aborted = aborted.map_err(|error| read_error(log, &error))?;
            if index.rewrites(log.id()) == rewrites {
                let aborted = Some(aborted.iter().map(told).collect());
                return Ok(Some(Isolated { slices, charge, aborted }));
            }
        }
    }

    /// Reads what there is room for. The room is taken first: data that waits for room would keep its memory, uncharged, for
    /// as long as other clients take nothing. A response that holds data already doesn't wait for more; then none.
    async fn read_charged(
        &self,
        log: &Log,
        from: Offset,
        limit: Offset,
        max_bytes: usize,
        first: bool,
    ) -> Result<Option<(Slices, Charge)>, ErrorCode> {
        let budget = &self.broker.budgets.responses;
        let max_bytes = max_bytes.min(MAX_READ_BYTES).min(budget.capacity());
        let mut room = max_bytes;
        loop {
            let charge = if first { Some(budget.charge(room).await) } else { budget.try_charge(room) };
            let Some(mut charge) = charge else { return Ok(None) };
            let slices = self.broker.read(log, from, limit, max_bytes, first).await;
            let slices = slices.map_err(|error| read_error(log, &error))?;
            // A first batch may be larger than what was asked for.
            if slices.len <= room {
                charge.shrink_to(slices.len);
                return Ok((slices.len > 0).then_some((slices, charge)));
            }
            room = slices.len;
        }
    }
}

fn told(aborted: &thalweg_segment::AbortedTransaction) -> AbortedTransaction {
    AbortedTransaction::default()
        .with_producer_id(aborted.producer_id.0.into())
        .with_first_offset(aborted.first_offset.0)
}

/// A partition that is refused before its log is looked at: Kafka's answer then has a list of aborted transactions, an empty one.
fn unknown(code: ErrorCode) -> FetchedPartition {
    FetchedPartition {
        error_code: code.code(),
        aborted_transactions: Some(Vec::new()),
        ..FetchedPartition::default()
    }
}

fn described(view: &LogView) -> FetchedPartition {
    FetchedPartition {
        high_watermark: view.high_watermark.0,
        last_stable_offset: view.last_stable.0,
        log_start_offset: view.start.0,
        ..FetchedPartition::default()
    }
}

/// Compares the leader epoch that a client knows with the log's (KIP-320).
pub(super) fn check_epoch(log: &Log, known: i32) -> Result<(), ErrorCode> {
    match log.closed() {
        Some(Closed::NotOwner) => return Err(ErrorCode::NotLeaderOrFollower),
        Some(Closed::Deleted) => return Err(ErrorCode::UnknownTopicOrPartition),
        None => {}
    }
    match LeaderEpoch(known) {
        LeaderEpoch(-1) => Ok(()),
        known if known < log.leader_epoch() => Err(ErrorCode::FencedLeaderEpoch),
        known if known > log.leader_epoch() => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the reader's history parts from the log's, if it says what it has read (KIP-595).
fn diverging_epoch(log: &Log, wanted: &Wanted) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let known = log.end_of_epoch(LeaderEpoch(wanted.last_fetched_epoch));
    let (epoch, end) = known.ok_or(ErrorCode::OffsetOutOfRange)?;
    let diverges = epoch.0 < wanted.last_fetched_epoch || end < wanted.offset;
    Ok(diverges.then(|| EpochEndOffset::default().with_epoch(epoch.0).with_end_offset(end.0)))
}

fn read_error(log: &Log, error: &thalweg_metadata::IndexError) -> ErrorCode {
    tracing::warn!(log = %log.id(), %error, "could not read");
    ErrorCode::KafkaStorageError
}

fn partitions_of(request: FetchRequest) -> (Vec<Wanted>, Vec<(String, Uuid, i32)>) {
    let wanted = request.topics.into_iter().flat_map(|topic| {
        let (name, id) = (topic.topic.to_string(), topic.topic_id);
        topic.partitions.into_iter().map(move |partition| Wanted {
            topic: name.clone(),
            topic_id: id,
            partition: partition.partition,
            // Fetch alone takes any negative epoch for none.
            current_leader_epoch: partition.current_leader_epoch.max(-1),
            offset: Offset(partition.fetch_offset),
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
        })
    });
    // Of a partition that is named twice, the last mention counts.
    let key = |wanted: &Wanted| (wanted.topic.clone(), wanted.topic_id, wanted.partition);
    let wanted = named_once(wanted, key, |first, last| *first = last);
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let (name, id) = (topic.topic.to_string(), topic.topic_id);
        topic.partitions.into_iter().map(move |partition| (name.clone(), id, partition))
    });
    (wanted, forgotten.collect())
}

/// Partitions of the same topic that follow each other make one entry.
fn group<'a>(fetched: impl Iterator<Item = (&'a Wanted, FetchedPartition)>) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (wanted, partition) in fetched {
        let same = topics.last().is_some_and(|topic: &FetchTopic| {
            topic.topic_id == wanted.topic_id && *topic.name.0 == *wanted.topic
        });
        if !same {
            let name = TopicName(StrBytes::from_string(wanted.topic.clone()));
            topics.push(FetchTopic { name, topic_id: wanted.topic_id, partitions: Vec::new() });
        }
        topics.last_mut().expect("one was just added").partitions.push(partition);
    }
    topics
}

/// A request with an isolation level that there isn't: refused as a whole, and partition by partition where clients are too old
/// to look at the whole.
fn refused(version: i16, request: FetchRequest) -> FetchResponse {
    let error_code = ErrorCode::UnknownServerError.code();
    let session_id = request.session_id;
    let (wanted, _) = partitions_of(request);
    let refused = wanted.iter().map(|wanted| {
        let partition_index = wanted.partition;
        let aborted_transactions = Some(Vec::new());
        let refused = FetchedPartition {
            partition_index,
            error_code,
            aborted_transactions,
            ..FetchedPartition::default()
        };
        (wanted, refused)
    });
    let topics = if version < TOPIC_IDS { group(refused) } else { Vec::new() };
    FetchResponse { error_code, session_id, topics, ..FetchResponse::default() }
}

/// A request at which Kafka fails inside, by topic ids.
fn failed(session_id: i32) -> FetchResponse {
    let error_code = ErrorCode::UnknownServerError.code();
    FetchResponse { error_code, session_id, ..FetchResponse::default() }
}

fn session_error(error: SessionError) -> FetchResponse {
    let code = match error {
        SessionError::NotFound => ErrorCode::FetchSessionIdNotFound,
        SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
        SessionError::TopicIds => ErrorCode::FetchSessionTopicIdError,
    };
    FetchResponse { error_code: code.code(), ..FetchResponse::default() }
}
