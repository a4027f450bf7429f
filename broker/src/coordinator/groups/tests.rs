//! The rules of groups, without a runtime: each test is a story of requests and of time that passes.

use super::{
    After, Caller, Effects, GroupSettings, Groups, Now, OffsetCommit, OffsetsWanted, Parked, Position,
    Ticket,
    classic::State,
    cluster::{ClusterView, GroupConfigs, GroupOverrides, TopicView},
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use thalweg_protocol::{
    ErrorCode,
    coordinator_records::{CoordinatorRecord as _, GroupRecord},
    messages::{
        GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, StrBytes,
        SyncGroupRequest, SyncGroupResponse,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use thalweg_runtime::Random;
use uuid::Uuid;

pub(super) const GROUP: &str = "g";
/// Who asks for offsets without being a member.
pub(super) const NOBODY: (Option<&str>, i32) = (None, -1);
const START_MS: i64 = 1_700_000_000_000;
/// The id of the topic that offsets are committed for. It is always there.
const OF_OFFSETS: Uuid = Uuid::from_u128(7);

/// A cluster of which a test makes what it wants.
#[derive(Default)]
pub(super) struct Cluster {
    topics: Mutex<BTreeMap<String, TopicView>>,
    version: AtomicU64,
    pub(super) configs: GroupConfigs,
}

impl Cluster {
    /// Creates a topic, or lets it grow. Its id tells its name and how often it was created.
    pub(super) fn put(&self, name: &str, partitions: i32) -> Uuid {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let mut topics = self.topics.lock();
        let new = Uuid::from_u64_pair(name.bytes().fold(1, |id, byte| id << 8 | u64::from(byte)), version);
        let topic = topics.entry(name.to_owned()).or_insert(TopicView { id: new, partitions });
        topic.partitions = partitions;
        topic.id
    }

    pub(super) fn delete(&self, name: &str) {
        self.version.fetch_add(1, Ordering::Relaxed);
        self.topics.lock().remove(name);
    }
}

impl ClusterView for Cluster {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    fn topic(&self, name: &str) -> Option<TopicView> {
        self.topics.lock().get(name).copied()
    }

    fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        if id == OF_OFFSETS {
            return Some("t".into());
        }
        let topics = self.topics.lock();
        topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.as_str().into())
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.topics.lock().keys().map(|name| name.as_str().into()).collect()
    }

    fn rack(&self) -> Option<&str> {
        None
    }

    fn group_overrides(&self, group: &str) -> GroupOverrides {
        self.configs.of(group)
    }
}

/// The groups of a partition, with a log that is durable at once unless told otherwise.
pub(super) struct Story {
    pub(super) groups: Groups,
    pub(super) cluster: Arc<Cluster>,
    now_ms: u64,
    tickets: u64,
    answers: BTreeMap<Ticket, Parked>,
    pub(super) log: Vec<GroupRecord>,
    /// What waits for the log, if it is held.
    pub(super) held: Option<Vec<After>>,
    pub(super) has_room: bool,
}

impl Story {
    pub(super) fn new() -> Self {
        Self::with(GroupSettings { initial_rebalance_delay_ms: 0, ..GroupSettings::default() })
    }

    pub(super) fn with(settings: GroupSettings) -> Self {
        Self::on(Arc::default(), settings)
    }

    fn on(cluster: Arc<Cluster>, settings: GroupSettings) -> Self {
        let mut groups = Groups::new(Arc::new(settings), Random::from_seed(1), cluster.clone());
        let mut effects = Effects::default();
        groups.loaded(Now { wall_ms: START_MS, monotonic_ms: 0 }, &mut effects);
        Self {
            groups,
            cluster,
            now_ms: 0,
            tickets: 0,
            answers: BTreeMap::new(),
            log: Vec::new(),
            held: None,
            has_room: true,
        }
    }

    /// The same groups, loaded from the log by another broker.
    pub(super) fn reloaded(self, settings: GroupSettings) -> Self {
        let mut next = Self::on(self.cluster.clone(), settings);
        for (offset, record) in (0..).zip(&self.log) {
            let (key, value) = record.encode().expect("short strings");
            let record = GroupRecord::decode(key, value).expect("our own").expect("a known type");
            next.groups.replay(record, Position { offset, producer_id: -1, loading: true });
        }
        next.log = self.log;
        next.now_ms = self.now_ms;
        next.run(|groups, now, effects| groups.loaded(now, effects));
        next
    }

    pub(super) fn now(&self) -> Now {
        Now { wall_ms: START_MS + self.now_ms as i64, monotonic_ms: self.now_ms }
    }

    pub(super) fn run<T>(&mut self, operation: impl FnOnce(&mut Groups, Now, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let now = self.now();
        let value = operation(&mut self.groups, now, &mut effects);
        self.carry_out(effects);
        value
    }

    pub(super) fn carry_out(&mut self, effects: Effects) {
        for record in effects.records {
            let offset = self.log.len() as i64;
            self.log.push(record.clone());
            self.groups.replay(record, Position { offset, producer_id: -1, loading: false });
        }
        for (ticket, answer) in effects.answers {
            assert!(self.answers.insert(ticket, answer).is_none(), "{ticket:?} is answered twice");
        }
        match (effects.after, &mut self.held) {
            (Some(after), Some(held)) => held.push(after),
            (Some(after), None) => self.store(after, Ok(())),
            (None, _) => {}
        }
    }

    pub(super) fn store(&mut self, after: After, stored: Result<(), ErrorCode>) {
        let mut effects = Effects::default();
        let now = self.now();
        self.groups.stored(after, stored, now, &mut effects);
        self.carry_out(effects);
    }

    /// What was held is durable, or can't be appended.
    pub(super) fn release(&mut self, stored: Result<(), ErrorCode>) {
        for after in self.held.take().expect("the log is held") {
            self.store(after, stored);
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(next) = self.groups.next_deadline_ms().filter(|next| *next <= end) {
            self.now_ms = next.max(self.now_ms);
            while self.run(|groups, now, effects| groups.expire(now, effects)) {}
        }
        self.now_ms = end;
    }

    pub(super) fn park_join(&mut self, version: i16, request: &JoinGroupRequest) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let caller =
            Caller { client_id: "client", client_host: "/127.0.0.1", version, has_room: self.has_room };
        self.run(|groups, now, effects| groups.join(caller, request, ticket, now, effects));
        ticket
    }

    pub(super) fn joined(&mut self, ticket: Ticket) -> Option<JoinGroupResponse> {
        match self.answers.remove(&ticket)? {
            Parked::Join(response) => Some(response),
            Parked::Sync(_) => panic!("a JoinGroup was answered by a SyncGroup"),
        }
    }

    /// A JoinGroup that is answered at once.
    pub(super) fn join(&mut self, version: i16, request: &JoinGroupRequest) -> JoinGroupResponse {
        let ticket = self.park_join(version, request);
        self.pass(0);
        self.joined(ticket).expect("answered at once")
    }

    /// The id that a new dynamic member is given.
    pub(super) fn new_id(&mut self, request: &JoinGroupRequest) -> String {
        let response = self.join(9, request);
        assert_eq!(response.error_code, ErrorCode::MemberIdRequired.code());
        response.member_id.to_string()
    }

    /// Dynamic members in one stable group, the first of them its leader, each assigned its own id.
    pub(super) fn stable(&mut self, count: usize) -> (Vec<String>, i32) {
        let ids: Vec<String> = (0..count).map(|_| self.new_id(&member(&["range"]))).collect();
        self.join_all(&ids)
    }

    pub(super) fn join_all(&mut self, ids: &[String]) -> (Vec<String>, i32) {
        let tickets: Vec<Ticket> = ids.iter().map(|id| self.park_join(9, &known(id, &["range"]))).collect();
        self.pass(0);
        let responses: Vec<_> =
            tickets.into_iter().map(|ticket| self.joined(ticket).expect("all have joined")).collect();
        let generation = responses[0].generation_id;
        let leader = responses[0].leader.to_string();
        for response in &responses {
            assert_eq!((response.error_code, response.generation_id), (0, generation));
            let expected = if *response.member_id == *leader { ids.len() } else { 0 };
            assert_eq!(response.members.len(), expected, "the leader alone sees the members");
        }
        let mut ids = ids.to_vec();
        ids.sort_by_key(|id| *id != leader);
        for id in ids.iter().rev() {
            let assigned = if *id == leader { &ids[..] } else { &[] };
            self.sync(id, generation, assigned);
        }
        (ids, generation)
    }

    pub(super) fn park_sync(&mut self, id: &str, generation: i32, assigned: &[String]) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let assignments = assigned.iter().map(|id| {
            let assignment = SyncGroupRequestAssignment::default().with_member_id(text(id));
            assignment.with_assignment(Bytes::copy_from_slice(id.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_member_id(text(id))
            .with_generation_id(generation)
            .with_protocol_type(Some(text("consumer")))
            .with_assignments(assignments.collect());
        self.run(|groups, now, effects| groups.sync(&request, ticket, now, effects));
        ticket
    }

    /// A leader's SyncGroup that gives itself an assignment.
    pub(super) fn park_assignment(&mut self, id: &str, generation: i32, assignment: Bytes) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let given =
            SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(assignment);
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_member_id(text(id))
            .with_generation_id(generation)
            .with_assignments(vec![given]);
        self.run(|groups, now, effects| groups.sync(&request, ticket, now, effects));
        ticket
    }

    pub(super) fn synced(&mut self, ticket: Ticket) -> Option<SyncGroupResponse> {
        match self.answers.remove(&ticket)? {
            Parked::Sync(response) => Some(response),
            Parked::Join(_) => panic!("a SyncGroup was answered by a JoinGroup"),
        }
    }

    pub(super) fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assigned: &[String],
    ) -> Option<SyncGroupResponse> {
        let ticket = self.park_sync(id, generation, assigned);
        self.synced(ticket)
    }

    pub(super) fn beat(&mut self, id: &str, generation: i32) -> Result<(), ErrorCode> {
        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text(id))
            .with_generation_id(generation);
        self.run(|groups, now, effects| groups.heartbeat(&request, now, effects))
    }

    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<i16> {
        let members = members.iter().map(|(id, instance)| {
            MemberIdentity::default().with_member_id(text(id)).with_group_instance_id(instance.map(text))
        });
        let members = members.collect();
        let left = self.run(|groups, now, effects| groups.leave(GROUP, members, now, effects));
        left.expect("the group has a name").iter().map(|member| member.error_code).collect()
    }

    pub(super) fn commit(&mut self, id: &str, generation: i32, offset: i64) -> Result<(), ErrorCode> {
        let request = OffsetCommitRequest {
            group_id: text(GROUP),
            member_id: text(id),
            generation_id_or_member_epoch: generation,
            ..OffsetCommitRequest::default()
        };
        let topics = [topic("t", &[(0, offset)])];
        let commit = OffsetCommit { request: &request, topics: &topics, version: 9, has_room: self.has_room };
        self.run(|groups, now, effects| groups.commit(commit, now, effects)).map(drop)
    }

    pub(super) fn committed(&self) -> i64 {
        let wanted = OffsetsWanted::Of(vec![(text("t"), Uuid::nil(), vec![0])]);
        self.groups.fetch_offsets(GROUP, wanted, false, NOBODY).expect("anybody may ask")[0].partitions[0]
            .committed_offset
    }

    pub(super) fn state(&self) -> Option<State> {
        Some(self.groups.classic(GROUP)?.state())
    }
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn topic(name: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequestTopic {
    let partition = |(partition_index, committed_offset): &(i32, i64)| OffsetCommitRequestPartition {
        partition_index: *partition_index,
        committed_offset: *committed_offset,
        committed_leader_epoch: 5,
        ..OffsetCommitRequestPartition::default()
    };
    OffsetCommitRequestTopic {
        name: text(name),
        topic_id: OF_OFFSETS,
        partitions: offsets.iter().map(partition).collect(),
    }
}

/// A subscription to topic "t".
fn subscription() -> Bytes {
    Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff")
}

pub(super) fn member(protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols
        .iter()
        .map(|name| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription()));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

pub(super) fn known(id: &str, protocols: &[&str]) -> JoinGroupRequest {
    member(protocols).with_member_id(text(id))
}

pub(super) fn instance(name: &str) -> JoinGroupRequest {
    member(&["range"]).with_group_instance_id(Some(text(name)))
}

#[test]
fn a_new_member_comes_back_with_its_id_and_is_the_leader_of_generation_1() {
    let mut story = Story::new();
    let id = story.new_id(&member(&["range"]));
    assert!(id.starts_with("client-"));
    let response = story.join(9, &known(&id, &["range"]));
    assert_eq!((response.error_code, response.generation_id), (0, 1));
    assert_eq!((&*response.leader, response.members.len()), (&*text(&id), 1));
    assert_eq!(response.members[0].metadata, subscription());
    let synced = story.sync(&id, 1, std::slice::from_ref(&id)).expect("stored at once");
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, id.as_bytes()));
    assert_eq!(story.state(), Some(State::Stable));
    assert_eq!(story.beat(&id, 1), Ok(()));
}

#[test]
fn before_version_4_a_member_joins_at_once() {
    let mut story = Story::new();
    let response = story.join(3, &member(&["range"]));
    assert_eq!((response.error_code, response.generation_id), (0, 1));
}

#[test]
fn an_id_that_nobody_comes_back_with_is_forgotten_with_its_session() {
    let mut story = Story::new();
    let id = story.new_id(&member(&["range"]));
    story.pass(10_000);
    assert_eq!(story.join(9, &known(&id, &["range"])).error_code, ErrorCode::UnknownMemberId.code());
}

#[test]
fn members_that_say_who_they_are_not_are_refused_with_kafkas_codes() {
    let mut story = Story::new();
    assert_eq!(story.join(9, &known("x", &["range"])).error_code, ErrorCode::UnknownMemberId.code());
    let (ids, generation) = story.stable(1);
    assert_eq!(story.join(9, &known("x", &["range"])).error_code, ErrorCode::UnknownMemberId.code());
    assert_eq!(story.beat("x", generation), Err(ErrorCode::UnknownMemberId));
    assert_eq!(story.beat(&ids[0], generation - 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(story.leave(&[("x", None)]), [ErrorCode::UnknownMemberId.code()]);
    let synced = story.sync("x", generation, &[]).expect("refused at once");
    assert_eq!(synced.error_code, ErrorCode::UnknownMemberId.code());
    let synced = story.sync(&ids[0], generation + 1, &[]).expect("refused at once");
    assert_eq!(synced.error_code, ErrorCode::IllegalGeneration.code());
    assert_eq!(story.commit("x", generation, 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(story.commit(&ids[0], generation - 1, 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(story.commit("", -1, 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(story.committed(), -1);
}

#[test]
fn sessions_and_names_are_checked_before_a_group_comes_to_be() {
    let mut story = Story::new();
    let code = |story: &mut Story, request: JoinGroupRequest| story.join(9, &request).error_code;
    let range = || member(&["range"]);
    assert_eq!(code(&mut story, range().with_group_id(GroupId::default())), ErrorCode::InvalidGroupId.code());
    assert_eq!(
        code(&mut story, range().with_session_timeout_ms(5_999)),
        ErrorCode::InvalidSessionTimeout.code()
    );
    assert_eq!(
        code(&mut story, range().with_session_timeout_ms(1_800_001)),
        ErrorCode::InvalidSessionTimeout.code()
    );
    let long = "x".repeat(100 * 1024);
    assert_eq!(
        code(&mut story, range().with_group_id(GroupId(text(&long)))),
        ErrorCode::UnknownServerError.code()
    );
    assert_eq!(
        code(&mut story, instance(&long)),
        ErrorCode::UnknownServerError.code(),
        "an id that no record can hold"
    );
    assert!(story.groups.groups.is_empty() && story.log.is_empty());
}

#[test]
fn members_without_a_common_protocol_are_inconsistent() {
    let mut story = Story::new();
    assert_eq!(story.join(9, &member(&[])).error_code, ErrorCode::InconsistentGroupProtocol.code());
    story.stable(1);
    let other = story.join(9, &member(&["sticky"]));
    assert_eq!(other.error_code, ErrorCode::InconsistentGroupProtocol.code());
    let other = story.join(9, &member(&["range"]).with_protocol_type(text("connect")));
    assert_eq!(other.error_code, ErrorCode::InconsistentGroupProtocol.code());
}

#[test]
fn the_protocol_that_all_know_and_most_like_best_is_chosen() {
    let mut story = Story::new();
    let likes = [["a", "b", "c"], ["b", "a", "c"], ["b", "c", "a"]];
    let ids: Vec<String> = likes.iter().map(|likes| story.new_id(&member(likes))).collect();
    let tickets: Vec<_> =
        ids.iter().zip(likes).map(|(id, likes)| story.park_join(9, &known(id, &likes))).collect();
    story.pass(0);
    for ticket in tickets {
        let joined = story.joined(ticket).expect("all have joined");
        assert_eq!(joined.protocol_name.as_deref(), Some("b"));
    }
}

#[test]
fn the_first_members_of_an_empty_group_wait_for_others_as_long_as_others_come() {
    let mut story =
        Story::with(GroupSettings { initial_rebalance_delay_ms: 3_000, ..GroupSettings::default() });
    let ids: Vec<String> = (0..3).map(|_| story.new_id(&member(&["range"]))).collect();
    let first = story.park_join(9, &known(&ids[0], &["range"]));
    story.pass(2_000);
    let second = story.park_join(9, &known(&ids[1], &["range"]));
    story.pass(2_000);
    assert_eq!(story.joined(first), None, "somebody came, so it waits on");
    let third = story.park_join(9, &known(&ids[2], &["range"]));
    story.pass(5_000);
    for ticket in [first, second, third] {
        assert_eq!(story.joined(ticket).map(|joined| joined.generation_id), Some(1));
    }
}

#[test]
fn a_rebalance_waits_for_all_members_and_no_longer_than_the_rebalance_timeout() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(3);
    let ticket = story.park_join(9, &known(&ids[0], &["range"]));
    assert_eq!(story.beat(&ids[1], generation), Err(ErrorCode::RebalanceInProgress));
    for _ in 0..6 {
        story.pass(9_000);
        assert_eq!(story.beat(&ids[1], generation), Err(ErrorCode::RebalanceInProgress));
    }
    assert_eq!(story.joined(ticket), None);
    story.pass(6_000);
    let joined = story.joined(ticket).expect("the time is over");
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 1));
    assert_eq!(story.beat(&ids[1], generation), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_member_that_is_not_heard_of_is_out_when_its_session_is_over() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(2);
    story.pass(9_000);
    assert_eq!(story.beat(&ids[0], generation), Ok(()));
    story.pass(1_000);
    assert_eq!(story.state(), Some(State::PreparingRebalance));
    assert_eq!(story.beat(&ids[0], generation), Err(ErrorCode::RebalanceInProgress));
    let rejoined = story.join(9, &known(&ids[0], &["range"]));
    assert_eq!((rejoined.generation_id, rejoined.members.len()), (generation + 1, 1));
    assert_eq!(story.beat(&ids[1], generation), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_commit_keeps_a_session_alive() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(1);
    for offset in 0..5 {
        story.pass(9_000);
        assert_eq!(story.commit(&ids[0], generation, offset), Ok(()));
    }
    assert_eq!((story.state(), story.committed()), (Some(State::Stable), 4));
}

#[test]
fn the_last_member_that_leaves_empties_the_group_and_its_record_says_so() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(2);
    assert_eq!(story.leave(&[(&ids[0], None)]), [0]);
    assert_eq!(story.state(), Some(State::PreparingRebalance));
    assert_eq!(story.leave(&[(&ids[1], None)]), [0]);
    assert_eq!(story.state(), Some(State::Empty));
    let Some(GroupRecord::GroupMetadata(_, Some(stored))) = story.log.last() else {
        panic!("a record of it")
    };
    assert_eq!((stored.generation, stored.members.len()), (generation + 1, 0));
    assert_eq!((stored.protocol.as_ref(), &*stored.protocol_type), (None, "consumer"));
}

#[test]
fn followers_get_their_part_only_when_the_leaders_assignment_is_durable() {
    let mut story = Story::new();
    let ids: Vec<String> = (0..2).map(|_| story.new_id(&member(&["range"]))).collect();
    let tickets: Vec<_> = ids.iter().map(|id| story.park_join(9, &known(id, &["range"]))).collect();
    story.pass(0);
    let leader = story.joined(tickets[0]).expect("joined").leader.to_string();
    let follower = ids.iter().find(|id| **id != leader).expect("there are two").clone();
    story.held = Some(Vec::new());
    let waiting = [story.park_sync(&follower, 1, &[]), story.park_sync(&leader, 1, &ids)];
    assert_eq!((story.synced(waiting[0]), story.synced(waiting[1])), (None, None));
    assert_eq!(story.commit(&leader, 1, 1), Err(ErrorCode::RebalanceInProgress));
    story.release(Ok(()));
    for (ticket, id) in waiting.into_iter().zip([&follower, &leader]) {
        let synced = story.synced(ticket).expect("it is durable");
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, id.as_bytes()));
    }
}

#[test]
fn an_assignment_that_cannot_be_stored_begins_a_new_rebalance() {
    let mut story = Story::new();
    let id = story.new_id(&member(&["range"]));
    story.join(9, &known(&id, &["range"]));
    story.held = Some(Vec::new());
    let ticket = story.park_sync(&id, 1, std::slice::from_ref(&id));
    story.release(Err(ErrorCode::UnknownServerError));
    let refused = story.synced(ticket).expect("refused");
    assert_eq!(refused.error_code, ErrorCode::UnknownServerError.code());
    assert_eq!(story.state(), Some(State::PreparingRebalance));
}

#[test]
fn an_assignment_is_of_no_use_once_another_rebalance_has_begun() {
    let mut story = Story::new();
    let ids: Vec<String> = (0..2).map(|_| story.new_id(&member(&["range"]))).collect();
    let tickets: Vec<_> = ids.iter().map(|id| story.park_join(9, &known(id, &["range"]))).collect();
    story.pass(0);
    let leader = story.joined(tickets[0]).expect("joined").leader.to_string();
    story.held = Some(Vec::new());
    let ticket = story.park_sync(&leader, 1, &ids);
    let follower = ids.iter().find(|id| **id != leader).expect("there are two").clone();
    assert_eq!(story.leave(&[(&follower, None)]), [0]);
    let refused = story.synced(ticket).expect("a rebalance answers whoever syncs");
    assert_eq!(refused.error_code, ErrorCode::RebalanceInProgress.code());
    story.release(Ok(()));
    assert_eq!(story.state(), Some(State::PreparingRebalance));
}

#[test]
fn members_that_do_not_sync_in_time_are_out() {
    let mut story = Story::new();
    let ids: Vec<String> = (0..2).map(|_| story.new_id(&member(&["range"]))).collect();
    let tickets: Vec<_> = ids.iter().map(|id| story.park_join(9, &known(id, &["range"]))).collect();
    story.pass(0);
    let leader = story.joined(tickets[0]).expect("joined").leader.to_string();
    let follower = ids.iter().find(|id| **id != leader).expect("there are two").clone();
    story.sync(&leader, 1, &ids);
    for _ in 0..7 {
        story.pass(9_000);
        let _ = story.beat(&leader, 1);
        let _ = story.beat(&follower, 1);
    }
    assert_eq!(story.beat(&follower, 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(story.beat(&leader, 1), Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn a_follower_that_joins_again_unchanged_is_told_the_generation_and_a_leader_begins_a_rebalance() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(2);
    let told = story.join(9, &known(&ids[1], &["range"]));
    assert_eq!((told.error_code, told.generation_id, told.members.len()), (0, generation, 0));
    assert_eq!(story.state(), Some(State::Stable));
    story.park_join(9, &known(&ids[0], &["range"]));
    assert_eq!(story.state(), Some(State::PreparingRebalance));
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_life_is_fenced() {
    let mut story = Story::new();
    let first = story.park_join(9, &instance("i"));
    story.pass(0);
    let first = story.joined(first).expect("a static member joins at once");
    let old = first.member_id.to_string();
    assert!(old.starts_with("i-"));
    story.sync(&old, 1, std::slice::from_ref(&old)).expect("stored");

    let back = story.join(9, &instance("i"));
    assert_eq!((back.error_code, back.generation_id, back.skip_assignment), (0, 1, true));
    let new = back.member_id.to_string();
    assert!(new != old && *back.leader == *new && back.members.len() == 1);
    assert_eq!(story.state(), Some(State::Stable));
    let synced = story.sync(&new, 1, &[]).expect("the assignment is there");
    assert_eq!(&synced.assignment[..], old.as_bytes());

    let stale = HeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text(&old))
        .with_generation_id(1)
        .with_group_instance_id(Some(text("i")));
    let beaten = story.run(|groups, now, effects| groups.heartbeat(&stale, now, effects));
    assert_eq!(beaten, Err(ErrorCode::FencedInstanceId));
    let stale = known(&old, &["range"]).with_group_instance_id(Some(text("i")));
    assert_eq!(story.join(9, &stale).error_code, ErrorCode::FencedInstanceId.code());
}

#[test]
fn a_client_that_cannot_skip_assignment_is_not_told_that_it_leads() {
    let mut story = Story::new();
    let old = story.join(8, &instance("i")).member_id.to_string();
    story.sync(&old, 1, std::slice::from_ref(&old)).expect("stored");
    let back = story.join(8, &instance("i"));
    assert_eq!((&*back.leader, back.members.len(), back.skip_assignment), (&*text(&old), 0, false));
}

#[test]
fn a_static_member_whose_new_id_cannot_be_stored_keeps_the_old_one() {
    let mut story = Story::new();
    let old = story.join(9, &instance("i")).member_id.to_string();
    story.sync(&old, 1, std::slice::from_ref(&old)).expect("stored");
    story.held = Some(Vec::new());
    let ticket = story.park_join(9, &instance("i"));
    story.release(Err(ErrorCode::UnknownServerError));
    let refused = story.joined(ticket).expect("refused");
    assert_eq!(refused.error_code, ErrorCode::UnknownServerError.code());
    assert_eq!(story.beat(&old, 1), Ok(()));
}

#[test]
fn an_administrator_takes_a_static_member_off_by_its_instance_id() {
    let mut story = Story::new();
    story.join(9, &instance("i"));
    assert_eq!(story.leave(&[("", Some("j")), ("", Some("i"))]), [ErrorCode::UnknownMemberId.code(), 0]);
    assert_eq!(story.state(), Some(State::Empty));
}

#[test]
fn static_members_survive_a_rebalance_that_they_miss() {
    let mut story = Story::new();
    let request = instance("i").with_session_timeout_ms(1_000_000);
    let id = story.join(9, &request).member_id.to_string();
    story.sync(&id, 1, std::slice::from_ref(&id)).expect("stored");
    let new = story.new_id(&member(&["range"]));
    let ticket = story.park_join(9, &known(&new, &["range"]));
    story.pass(60_000);
    let joined = story.joined(ticket).expect("the time is over");
    assert_eq!((&*joined.leader, joined.members.len()), (&*text(&new), 2), "the one who has joined leads");
}

#[test]
fn a_full_group_takes_nobody_more() {
    let settings = GroupSettings { initial_rebalance_delay_ms: 0, max_size: 2, ..GroupSettings::default() };
    let mut story = Story::with(settings);
    story.stable(2);
    let refused = story.join(9, &member(&["range"]));
    assert_eq!((refused.error_code, &*refused.member_id), (ErrorCode::GroupMaxSizeReached.code(), ""));
}

#[test]
fn a_group_goes_on_in_its_generation_after_its_log_was_loaded() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(3);
    story.commit(&ids[0], generation, 77).expect("a member");
    let bytes = story.groups.bytes();
    let mut story = story.reloaded(GroupSettings::default());
    assert_eq!((story.state(), story.committed()), (Some(State::Stable), 77));
    assert!(story.groups.bytes().abs_diff(bytes) < bytes / 2);
    for id in &ids {
        assert_eq!(story.beat(id, generation), Ok(()));
        let synced = story.sync(id, generation, &[]).expect("stable");
        assert_eq!(&synced.assignment[..], id.as_bytes());
    }
    // Who isn't heard of after the start is out when the session is over.
    story.pass(10_000);
    assert_ne!(story.state(), Some(State::Stable));
}

#[test]
fn a_group_that_is_too_large_for_a_new_limit_rebalances_when_it_is_loaded() {
    let mut story = Story::new();
    story.stable(3);
    let story = story.reloaded(GroupSettings { max_size: 2, ..GroupSettings::default() });
    assert_eq!(story.state(), Some(State::PreparingRebalance));
}

#[test]
fn offsets_are_stored_without_members_and_told_with_their_epoch() {
    let mut story = Story::new();
    assert_eq!(story.commit("", -1, 42), Ok(()));
    assert_eq!((story.state(), story.committed()), (Some(State::Empty), 42));
    let all = story.groups.fetch_offsets(GROUP, OffsetsWanted::All, false, NOBODY).expect("anybody may ask");
    let partition = &all[0].partitions[0];
    assert_eq!((&*all[0].name.0, partition.committed_offset, partition.committed_leader_epoch), ("t", 42, 5));
    let other = OffsetsWanted::Of(vec![(text("t"), Uuid::from_u128(8), vec![0])]);
    let fetched = story.groups.fetch_offsets(GROUP, other, false, NOBODY).expect("anybody may ask");
    assert_eq!(fetched[0].partitions[0].committed_offset, -1, "a topic of the same name, not the same");
    assert!(
        story
            .groups
            .fetch_offsets("other", OffsetsWanted::All, false, NOBODY)
            .is_ok_and(|all| all.is_empty())
    );
}

#[test]
fn an_unknown_group_is_an_error_of_its_own_from_version_9() {
    let mut story = Story::new();
    let request = OffsetCommitRequest {
        group_id: text("none"),
        generation_id_or_member_epoch: 1,
        ..OffsetCommitRequest::default()
    };
    for (version, code) in [(8, ErrorCode::IllegalGeneration), (9, ErrorCode::GroupIdNotFound)] {
        let topics = [topic("t", &[(0, 1)])];
        let commit = OffsetCommit { request: &request, topics: &topics, version, has_room: true };
        assert_eq!(story.run(|groups, now, effects| groups.commit(commit, now, effects)), Err(code));
    }
}

#[test]
fn metadata_that_is_too_long_refuses_its_partition_alone() {
    let mut story = Story::new();
    let mut wanted = topic("t", &[(0, 1), (1, 2)]);
    // Java counts a character beyond the first plane as two.
    wanted.partitions[0].committed_metadata = Some(text(&"𝄞".repeat(2049)));
    wanted.partitions[1].committed_metadata = Some(text(&"ü".repeat(4096)));
    let request = OffsetCommitRequest { group_id: text(GROUP), ..OffsetCommitRequest::default() };
    let commit = OffsetCommit { request: &request, topics: &[wanted], version: 9, has_room: true };
    let codes =
        story.run(|groups, now, effects| groups.commit(commit, now, effects)).expect("a simple group");
    assert_eq!(codes, [[(0, ErrorCode::OffsetMetadataTooLarge), (1, ErrorCode::None)]]);
    assert_eq!(story.committed(), -1);
}

#[test]
fn offsets_of_a_simple_group_expire_by_their_commit_and_the_group_with_them() {
    let mut story = Story::new();
    story.commit("", -1, 1).expect("a simple group");
    let week = 7 * 24 * 3_600_000;
    story.pass(week - 600_000);
    assert_eq!(story.committed(), 1);
    story.pass(700_000);
    assert_eq!((story.committed(), story.state()), (-1, None));
    assert_eq!(story.groups.bytes(), 0);
    assert_eq!(story.groups.timers.len(), 1, "nothing but the look-out for expired offsets");
    let story = story.reloaded(GroupSettings::default());
    assert_eq!((story.committed(), story.state()), (-1, None), "the log says so too");
}

#[test]
fn offsets_of_a_group_with_members_are_kept_for_topics_that_they_subscribe_to() {
    let settings = GroupSettings {
        initial_rebalance_delay_ms: 0,
        offsets_retention: std::time::Duration::from_secs(60),
        retention_check_interval: std::time::Duration::from_secs(1),
        ..GroupSettings::default()
    };
    let mut story = Story::with(settings);
    let (ids, generation) = story.stable(1);
    let request = OffsetCommitRequest {
        group_id: text(GROUP),
        member_id: text(&ids[0]),
        generation_id_or_member_epoch: generation,
        ..OffsetCommitRequest::default()
    };
    let topics = [topic("t", &[(0, 1)]), topic("other", &[(0, 1)])];
    let commit = OffsetCommit { request: &request, topics: &topics, version: 9, has_room: true };
    story.run(|groups, now, effects| groups.commit(commit, now, effects)).expect("a member");
    for _ in 0..10 {
        story.pass(9_000);
        story.beat(&ids[0], generation).expect("a member");
    }
    let names = |story: &Story| {
        let all =
            story.groups.fetch_offsets(GROUP, OffsetsWanted::All, false, NOBODY).expect("anybody may ask");
        all.iter().map(|topic| topic.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&story), ["t"]);
    // From when the last member has left, all of them expire.
    story.leave(&[(&ids[0], None)]);
    story.pass(59_000);
    assert_eq!(names(&story), ["t"]);
    story.pass(3_000);
    assert_eq!(story.state(), None);
}

#[test]
fn only_empty_groups_are_deleted_and_nothing_is_left_of_them() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(1);
    story.commit(&ids[0], generation, 5).expect("a member");
    let delete = |story: &mut Story| story.run(|groups, _, effects| groups.delete(GROUP, effects));
    assert_eq!(delete(&mut story), Err(ErrorCode::NonEmptyGroup));
    story.leave(&[(&ids[0], None)]);
    assert_eq!(delete(&mut story), Ok(()));
    assert_eq!(delete(&mut story), Err(ErrorCode::GroupIdNotFound));
    assert_eq!((story.state(), story.committed(), story.groups.bytes()), (None, -1, 0));
    assert_eq!(story.groups.timers.len(), 1);
}

#[test]
fn offsets_are_deleted_for_topics_that_nobody_subscribes_to() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(1);
    story.commit(&ids[0], generation, 5).expect("a member");
    assert_eq!(story.groups.check_offset_delete("none"), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(story.groups.check_offset_delete(GROUP), Ok(()), "consumers tell what they subscribe to");
    let delete =
        |story: &mut Story| story.run(|groups, _, effects| groups.delete_offset(GROUP, "t", 0, effects));
    assert_eq!(delete(&mut story), Err(ErrorCode::GroupSubscribedToTopic));
    story.leave(&[(&ids[0], None)]);
    assert_eq!(delete(&mut story), Ok(()));
    assert_eq!(story.committed(), -1);
}

#[test]
fn offsets_go_with_their_topic_and_those_of_its_namesake_stay() {
    let mut story = Story::new();
    story.commit("", -1, 5).expect("a simple group");
    story.run(|groups, _, effects| groups.topic_deleted("t", Uuid::from_u128(8), effects));
    assert_eq!(story.committed(), 5);
    story.run(|groups, _, effects| groups.topic_deleted("t", Uuid::from_u128(7), effects));
    assert_eq!(story.committed(), -1);
}

#[test]
fn offsets_of_an_open_transaction_go_with_their_topic() {
    let mut story = Story::new();
    story.commit("", -1, 5).expect("a simple group");
    let record = story.log.last().expect("the commit").clone();
    story.groups.replay(record, Position { offset: 9, producer_id: 77, loading: false });
    story.run(|groups, _, effects| groups.topic_deleted("t", Uuid::from_u128(8), effects));
    assert_eq!(story.log.len(), 1, "of another topic with this name");
    story.run(|groups, _, effects| groups.topic_deleted("t", Uuid::from_u128(7), effects));
    assert_eq!(story.log.len(), 2, "one record deletes both");
    story.groups.transaction_ended(77, true);
    assert_eq!(story.committed(), -1);
}

#[test]
fn groups_are_listed_by_state_and_type_whatever_the_case() {
    let mut story = Story::new();
    story.stable(1);
    let list = |states: &[&str], types: &[&str]| {
        let own = |filter: &[&str]| filter.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        story.groups.list(&own(states), &own(types)).len()
    };
    assert_eq!(list(&[], &[]), 1);
    assert_eq!(
        (list(&[" sTable "], &["CLASSIC"]), list(&["Empty"], &[]), list(&[], &["consumer"])),
        (1, 0, 0)
    );
    let described = story.groups.describe(GROUP, 6);
    assert_eq!((&*described.group_state, &*described.protocol_data), ("Stable", "range"));
    assert_eq!(described.members[0].member_metadata, subscription());
    assert_eq!(&*described.members[0].client_host, "/127.0.0.1");
    assert_eq!(story.groups.describe("none", 5).error_code, 0);
    assert_eq!(story.groups.describe("none", 6).error_code, ErrorCode::GroupIdNotFound.code());
}

#[test]
fn ten_thousand_members_join_one_generation() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(10_000);
    assert_eq!((ids.len(), story.state()), (10_000, Some(State::Stable)));
    assert_eq!(story.beat(&ids[9_999], generation), Ok(()));
    let grown = story.groups.bytes();
    assert!((5_000_000..30_000_000).contains(&grown), "{grown}");
    story.pass(10_000);
    assert_eq!(story.state(), Some(State::Empty));
    assert!(story.groups.bytes() < 2_000, "{}", story.groups.bytes());
}

#[test]
fn without_memory_nothing_grows() {
    let mut story = Story::new();
    story.has_room = false;
    assert_eq!(story.join(9, &member(&["range"])).error_code, ErrorCode::CoordinatorNotAvailable.code());
    assert_eq!((story.state(), story.log.len()), (None, 0), "no group is made for who can't join it");
    story.has_room = true;
    let (ids, generation) = story.stable(1);
    story.has_room = false;
    let grown = known(&ids[0], &["range", "another"]);
    assert_eq!(story.join(9, &grown).error_code, ErrorCode::CoordinatorNotAvailable.code());
    assert_eq!((story.beat(&ids[0], generation), story.state()), (Ok(()), Some(State::Stable)));

    let commit = |story: &mut Story, metadata: &str| {
        let request = OffsetCommitRequest {
            group_id: text(GROUP),
            member_id: text(&ids[0]),
            generation_id_or_member_epoch: generation,
            ..OffsetCommitRequest::default()
        };
        let mut topics = [topic("t", &[(0, 5)])];
        topics[0].partitions[0].committed_metadata = Some(text(metadata));
        let commit =
            OffsetCommit { request: &request, topics: &topics, version: 9, has_room: story.has_room };
        story.run(|groups, now, effects| groups.commit(commit, now, effects)).map(drop)
    };
    story.has_room = true;
    assert_eq!(commit(&mut story, "long"), Ok(()));
    story.has_room = false;
    assert_eq!(commit(&mut story, "longer"), Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(commit(&mut story, "less"), Ok(()));
}

#[test]
fn a_static_member_in_a_new_life_has_one_timer_and_owes_what_its_old_one_owed() {
    let mut story = Story::new();
    let tickets = ["i", "j"].map(|name| story.park_join(9, &instance(name)));
    story.pass(0);
    let [first, second] = tickets.map(|ticket| story.joined(ticket).expect("both have joined"));
    let leader = first.leader.to_string();
    let (follower, name) = match *first.member_id == *leader {
        true => (second.member_id.to_string(), "j"),
        false => (first.member_id.to_string(), "i"),
    };
    let generation = first.generation_id;
    story.sync(&leader, generation, std::slice::from_ref(&leader)).expect("stored");
    let timers = story.groups.timers.len();
    // It has not synced yet. Its new id is stored slowly: for longer than its session lasts.
    story.held = Some(Vec::new());
    let ticket = story.park_join(9, &instance(name));
    assert_eq!(story.groups.timers.len(), timers, "the old life's is gone");
    story.groups.classic(GROUP).expect("known").check();
    for _ in 0..3 {
        story.pass(4_000);
        assert_eq!(story.beat(&leader, generation), Ok(()));
    }
    story.release(Ok(()));
    let new = story.joined(ticket).expect("stored").member_id.to_string();
    assert_ne!(new, follower);
    for _ in 0..3 {
        story.pass(4_000);
        // Either may say first that the other is gone.
        let _ = story.beat(&leader, generation);
    }
    assert_eq!(story.state(), Some(State::PreparingRebalance), "nothing was heard of the new life");
}

#[test]
fn without_memory_nobody_new_is_taken_in_and_who_is_there_goes_on() {
    let mut story = Story::new();
    let (ids, generation) = story.stable(1);
    let given = story.new_id(&member(&["range"]));
    story.commit(&ids[0], generation, 1).expect("a member");
    story.has_room = false;
    assert_eq!(story.join(9, &member(&["range"])).error_code, ErrorCode::CoordinatorNotAvailable.code());
    assert_eq!(
        story.join(9, &known(&given, &["range"])).error_code,
        ErrorCode::CoordinatorNotAvailable.code()
    );
    assert_eq!(story.commit(&ids[0], generation, 2), Ok(()));
    story.leave(&[(&given, None)]);
    assert_eq!(story.join(9, &known(&ids[0], &["range"])).generation_id, generation + 1);
}
