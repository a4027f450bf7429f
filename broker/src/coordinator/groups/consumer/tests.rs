//! The rules of consumer groups, without a runtime: each test is a story of heartbeats and of time that passes.

use super::{
    super::{
        ConsumerGroupSettings, GroupSettings, MigrationPolicy, OffsetCommit, OffsetsWanted,
        cluster::{ClusterView as _, GroupOverrides},
        tests::{GROUP, Story, group, known, member, text},
    },
    Assignor, Client, Heartbeat, Refusal, check_heartbeat,
    group::State,
};
use std::collections::{BTreeMap, BTreeSet};
use thalweg_protocol::{
    ErrorCode,
    coordinator_records::GroupRecord,
    messages::{
        ConsumerGroupHeartbeatRequest, OffsetCommitRequest, TopicName,
        consumer_group_heartbeat_request::TopicPartitions,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    },
};
use uuid::Uuid;

/// A client of the consumer protocol: what it knows, and what it has.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) id: String,
    pub(super) epoch: i32,
    pub(super) instance: Option<String>,
    pub(super) topics: Option<Vec<String>>,
    pub(super) regex: Option<String>,
    pub(super) owned: BTreeMap<Uuid, BTreeSet<i32>>,
    /// It has missed an answer, so it tells everything, and is told everything.
    pub(super) has_missed_one: bool,
}

impl Consumer {
    pub(super) fn new(id: &str, topics: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            epoch: 0,
            instance: None,
            topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
            regex: None,
            owned: BTreeMap::new(),
            has_missed_one: false,
        }
    }

    fn by_regex(id: &str, regex: &str) -> Self {
        Self { topics: None, regex: Some(regex.to_owned()), ..Self::new(id, &[]) }
    }

    fn with_instance(self, instance: &str) -> Self {
        Self { instance: Some(instance.to_owned()), ..self }
    }

    /// What it sends: everything when it joins, and what it has when that is asked for.
    pub(super) fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group())
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.as_deref().map(text))
            .with_topic_partitions(Some(self.owned()));
        match self.epoch {
            0 => self.subscribing(request).with_topic_partitions(Some(Vec::new())),
            1.. if self.has_missed_one => self.subscribing(request),
            _ => request,
        }
    }

    fn subscribing(&self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatRequest {
        let name = |name: &String| TopicName(text(name));
        request
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(self.topics.as_ref().map(|names| names.iter().map(name).collect()))
            .with_subscribed_topic_regex(self.regex.as_deref().map(text))
    }

    fn owned(&self) -> Vec<TopicPartitions> {
        let topic = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
            let partitions = partitions.iter().copied().collect();
            TopicPartitions::default().with_topic_id(*topic).with_partitions(partitions)
        };
        self.owned.iter().map(topic).collect()
    }

    /// Takes an answer in, at once.
    pub(super) fn hear(&mut self, heard: &Heartbeat) {
        self.epoch = heard.response.member_epoch;
        self.has_missed_one = false;
        if let Some(assignment) = &heard.response.assignment {
            let topics = assignment.topic_partitions.iter();
            self.owned =
                topics.map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect())).collect();
        }
    }

    fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

impl Story {
    pub(super) fn send(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<Heartbeat, Refusal> {
        let client = Client { id: "client", host: "/127.0.0.1", has_room: self.has_room };
        let settings = self.groups.settings.clone();
        check_heartbeat(request, 1, &settings)?;
        let heard = self.run(|groups, now, effects| groups.consumer_heartbeat(client, request, now, effects));
        self.groups.check_all();
        heard
    }

    /// A heartbeat whose answer the consumer takes in.
    pub(super) fn heartbeat(&mut self, consumer: &mut Consumer) -> Result<Heartbeat, Refusal> {
        let heard = self.send(&consumer.request())?;
        consumer.hear(&heard);
        if heard.resolve {
            self.resolve_now();
        }
        Ok(heard)
    }

    /// What the broker does in a task of its own.
    pub(super) fn resolve_now(&mut self) {
        let Some(resolving) = self.run(|groups, now, _| groups.begin_resolving(GROUP, now)) else { return };
        let found = futures::executor::block_on(resolving.resolve(|topic| topic != "hidden"));
        self.run(|groups, _, effects| groups.resolved(GROUP, &resolving, found, effects));
    }

    /// Heartbeats of all in turn, until all have what they are to have.
    pub(super) fn settle(&mut self, consumers: &mut [&mut Consumer]) {
        for _ in 0..20 {
            self.pass(1_000);
            for consumer in &mut *consumers {
                self.heartbeat(consumer).expect("a member");
            }
        }
        assert_eq!(self.consumer_state(), Some(State::Stable));
    }

    pub(super) fn consumer_state(&self) -> Option<State> {
        Some(self.groups.consumer(GROUP)?.state())
    }

    fn leave_as(&mut self, consumer: &Consumer, epoch: i32) -> Result<Heartbeat, Refusal> {
        self.send(&Consumer { epoch, ..consumer.clone() }.request())
    }

    fn commit_as(&mut self, id: &str, epoch: i32, version: i16, topic: Uuid) -> Result<(), ErrorCode> {
        let request = OffsetCommitRequest {
            group_id: text(GROUP),
            member_id: text(id),
            generation_id_or_member_epoch: epoch,
            ..OffsetCommitRequest::default()
        };
        let partition = OffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
        let topics =
            [OffsetCommitRequestTopic { name: text("t"), topic_id: topic, partitions: vec![partition] }];
        let commit = OffsetCommit { request: &request, topics: &topics, version, has_room: true };
        self.run(|groups, now, effects| groups.commit(commit, now, effects)).map(drop)
    }
}

fn story() -> Story {
    let story = Story::with(settings(ConsumerGroupSettings::default()));
    story.cluster.put("t", 4);
    story
}

fn settings(consumer: ConsumerGroupSettings) -> GroupSettings {
    GroupSettings { initial_rebalance_delay_ms: 0, consumer, ..GroupSettings::default() }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (ErrorCode, String) {
    let refusal = result.expect_err("it is refused");
    (refusal.code, refusal.message.unwrap_or_default())
}

#[test]
fn a_member_alone_has_everything_at_once_and_its_further_heartbeats_store_nothing() {
    let mut story = story();
    let mut one = Consumer::new("one", &["t", "missing"]);
    let heard = story.heartbeat(&mut one).expect("joins");
    assert_eq!((one.epoch, one.count(), heard.is_known), (2, 4, false));
    assert_eq!((heard.response.heartbeat_interval_ms, heard.response.error_code), (5_000, 0));
    assert_eq!(story.consumer_state(), Some(State::Stable));
    let stored = story.log.len();
    for _ in 0..10 {
        story.pass(5_000);
        let heard = story.heartbeat(&mut one).expect("a member");
        assert!(heard.is_known && heard.response.assignment.is_none());
    }
    assert_eq!(story.log.len(), stored);
}

#[test]
fn a_second_member_gets_its_share_when_the_first_has_given_it_up() {
    let mut story = story();
    let (mut one, mut two) = (Consumer::new("one", &["t"]), Consumer::new("two", &["t"]));
    story.heartbeat(&mut one).expect("joins");
    story.pass(1_000);
    story.heartbeat(&mut two).expect("joins");
    assert_eq!((two.epoch, two.count(), story.consumer_state()), (3, 0, Some(State::Reconciling)));
    // The first is told what it may keep, at its old epoch, and still has the rest until it says otherwise.
    let before = one.clone();
    story.heartbeat(&mut one).expect("a member");
    assert_eq!((one.epoch, one.count()), (2, 2));
    story.send(&before.request()).expect("it still has them");
    story.heartbeat(&mut two).expect("a member");
    assert_eq!(two.count(), 0);
    story.heartbeat(&mut one).expect("it has given them up");
    assert_eq!(one.epoch, 3);
    story.heartbeat(&mut two).expect("a member");
    assert_eq!((two.epoch, two.count(), story.consumer_state()), (3, 2, Some(State::Stable)));
}

#[test]
fn those_who_come_together_cost_one_assignment() {
    let mut story = story();
    let mut all: Vec<_> = (0..4).map(|n| Consumer::new(&format!("m{n}"), &["t"])).collect();
    for consumer in &mut all {
        story.heartbeat(consumer).expect("joins");
    }
    assert_eq!(story.consumer_state(), Some(State::Assigning));
    story.settle(&mut all.iter_mut().collect::<Vec<_>>());
    assert!(all.iter().all(|consumer| consumer.count() == 1 && consumer.epoch == 5), "{all:?}");
    let targets = story.log.iter().filter(|record| matches!(record, GroupRecord::ConsumerTarget(..)));
    assert_eq!(targets.count(), 2);
    // An operator may want it otherwise.
    let overrides = GroupOverrides { assignment_interval_ms: Some(0), ..GroupOverrides::default() };
    story.cluster.configs.set(GROUP, overrides);
    story.heartbeat(&mut Consumer::new("m4", &["t"])).expect("joins");
    assert_eq!(story.consumer_state(), Some(State::Reconciling));
}

#[test]
fn members_of_other_epochs_are_fenced_in_kafkas_words() {
    let mut story = story();
    let mut one = Consumer::new("one", &["t"]);
    story.heartbeat(&mut one).expect("joins");
    let at = |epoch| Consumer { epoch, ..one.clone() }.request();
    let greater = "The consumer group member has a greater member epoch (3) than the one known by the group coordinator (2). The member must abandon all its partitions and rejoin.";
    assert_eq!(refused(story.send(&at(3))), (ErrorCode::FencedMemberEpoch, greater.into()));
    let smaller = "The consumer group member has a smaller member epoch (1) than the one known by the group coordinator (2). The member must abandon all its partitions and rejoin.";
    assert_eq!(refused(story.send(&at(1))), (ErrorCode::FencedMemberEpoch, smaller.into()));
    let unknown = Consumer { epoch: 2, ..Consumer::new("two", &["t"]) };
    let words = "Member two is not a member of group g.";
    assert_eq!(refused(story.send(&unknown.request())), (ErrorCode::UnknownMemberId, words.into()));
    let elsewhere = unknown.request().with_group_id(thalweg_protocol::messages::GroupId(text("other")));
    let words = "Consumer group other not found.";
    assert_eq!(refused(story.send(&elsewhere)), (ErrorCode::GroupIdNotFound, words.into()));
    // Epoch 0 begins anew, as the member that it is, which has what it had.
    one.epoch = 0;
    story.heartbeat(&mut one).expect("joins again");
    assert_eq!((one.epoch, one.count()), (2, 4));
}

#[test]
fn a_member_that_has_missed_the_rise_of_its_epoch_may_come_with_the_last() {
    let mut story = story();
    let mut one = Consumer::new("one", &["t"]);
    story.heartbeat(&mut one).expect("joins");
    let before = one.clone();
    story.cluster.put("t", 5);
    story.pass(1_000);
    story.heartbeat(&mut one).expect("a member");
    assert_eq!((one.epoch, one.count()), (3, 5));
    let heard = story.send(&before.request()).expect("the answer was lost");
    assert_eq!(heard.response.member_epoch, 3);
    let says_nothing = before.request().with_topic_partitions(None);
    assert_eq!(refused(story.send(&says_nothing)).0, ErrorCode::FencedMemberEpoch);
}

#[test]
fn what_makes_no_sense_is_refused_before_any_group_is_looked_at() {
    let joining = Consumer::new("one", &["t"]).request();
    let beating = Consumer { epoch: 1, ..Consumer::new("one", &["t"]) }.request();
    let check = |request: &ConsumerGroupHeartbeatRequest, version| {
        refused(check_heartbeat(request, version, &GroupSettings::default()))
    };
    let invalid = |words: &str| (ErrorCode::InvalidRequest, words.to_owned());
    assert_eq!(check(&joining.clone().with_member_id(text(" ")), 1), invalid("MemberId can't be empty."));
    assert!(check_heartbeat(&joining.clone().with_member_id(text("")), 0, &GroupSettings::default()).is_ok());
    assert_eq!(check(&beating.clone().with_member_id(text("")), 0), invalid("MemberId can't be empty."));
    let named = |name| thalweg_protocol::messages::GroupId(text(name));
    assert_eq!(check(&joining.clone().with_group_id(named("")), 1), invalid("GroupId can't be empty."));
    let instance = joining.clone().with_instance_id(Some(text("")));
    assert_eq!(check(&instance, 1), invalid("InstanceId can't be empty."));
    let rack = joining.clone().with_rack_id(Some(text("")));
    assert_eq!(check(&rack, 1), invalid("RackId can't be empty."));
    let timeout = joining.clone().with_rebalance_timeout_ms(-1);
    assert_eq!(check(&timeout, 1), invalid("RebalanceTimeoutMs must be provided in first request."));
    let owning = joining.clone().with_topic_partitions(None);
    assert_eq!(check(&owning, 1), invalid("TopicPartitions must be empty when (re-)joining."));
    let nothing = joining.clone().with_subscribed_topic_names(None);
    let words = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
    assert_eq!(check(&nothing, 1), invalid(words));
    assert_eq!(check(&beating.clone().with_member_epoch(-2), 1), invalid("InstanceId can't be null."));
    assert_eq!(check(&beating.with_member_epoch(-3), 1), invalid("MemberEpoch is invalid."));
    let long = joining.clone().with_member_id(text(&"x".repeat(40_000)));
    assert_eq!(check(&long, 1).0, ErrorCode::UnknownServerError);
    let assignor = joining.with_server_assignor(Some(text("sticky")));
    let words = "ServerAssignor sticky is not supported. Supported assignors: uniform, range.";
    assert_eq!(check(&assignor, 1), (ErrorCode::UnsupportedAssignor, words.into()));
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut story = Story::with(settings(ConsumerGroupSettings { max_size: 1, ..Default::default() }));
    story.heartbeat(&mut Consumer::new("one", &["t"])).expect("joins");
    let words = "The consumer group has reached its maximum capacity of 1 members.";
    let two = story.heartbeat(&mut Consumer::new("two", &["t"]));
    assert_eq!(refused(two), (ErrorCode::GroupMaxSizeReached, words.into()));
    story.heartbeat(&mut Consumer::new("one", &["t"])).expect("joins again");
}

#[test]
fn who_leaves_gives_everything_up_at_once() {
    let mut story = story();
    let (mut one, mut two) = (Consumer::new("one", &["t"]), Consumer::new("two", &["t"]));
    story.heartbeat(&mut one).expect("joins");
    story.heartbeat(&mut two).expect("joins");
    story.settle(&mut [&mut one, &mut two]);
    let heard = story.leave_as(&two, -1).expect("a member");
    assert_eq!((heard.response.member_epoch, &*heard.response.member_id.expect("named")), (-1, "two"));
    story.settle(&mut [&mut one]);
    assert_eq!(one.count(), 4);
    assert_eq!(refused(story.leave_as(&two, -1)).0, ErrorCode::UnknownMemberId);
    story.leave_as(&one, -1).expect("a member");
    assert_eq!(story.consumer_state(), Some(State::Empty));
    assert_eq!(story.run(|groups, _, effects| groups.delete(GROUP, effects)), Ok(()));
}

#[test]
fn a_member_that_is_not_heard_of_is_out_when_its_session_is_over() {
    let mut story = story();
    let (mut one, mut two) = (Consumer::new("one", &["t"]), Consumer::new("two", &["t"]));
    story.heartbeat(&mut one).expect("joins");
    story.heartbeat(&mut two).expect("joins");
    story.settle(&mut [&mut one, &mut two]);
    story.pass(30_000);
    story.heartbeat(&mut one).expect("a member");
    story.pass(15_000);
    story.heartbeat(&mut one).expect("a member");
    story.settle(&mut [&mut one]);
    assert_eq!(one.count(), 4);
    assert_eq!(refused(story.heartbeat(&mut two)).0, ErrorCode::UnknownMemberId);
    // A group may have a session of its own.
    let overrides = GroupOverrides { session_timeout_ms: Some(50_000), ..GroupOverrides::default() };
    story.cluster.configs.set(GROUP, overrides);
    story.heartbeat(&mut one).expect("a member");
    story.pass(49_999);
    assert_eq!(story.consumer_state(), Some(State::Stable));
    story.pass(1);
    assert_eq!(story.consumer_state(), Some(State::Empty));
}

#[test]
fn whoever_does_not_give_up_in_time_is_out() {
    let mut story = story();
    let (mut one, mut two) = (Consumer::new("one", &["t"]), Consumer::new("two", &["t"]));
    story.heartbeat(&mut one).expect("joins");
    let stubborn = one.clone();
    story.pass(1_000);
    story.heartbeat(&mut two).expect("joins");
    story.heartbeat(&mut one).expect("it is told to give up");
    for _ in 0..6 {
        story.pass(9_000);
        story.send(&stubborn.request()).expect("it has not given up yet");
        story.heartbeat(&mut two).expect("a member");
    }
    story.pass(6_000);
    assert_eq!(refused(story.send(&stubborn.request())).0, ErrorCode::UnknownMemberId);
    story.settle(&mut [&mut two]);
    assert_eq!(two.count(), 4);
}

#[test]
fn a_static_member_that_is_back_in_time_has_what_it_had() {
    let mut story = story();
    let (mut one, mut two) = (Consumer::new("one", &["t"]).with_instance("i"), Consumer::new("two", &["t"]));
    story.heartbeat(&mut one).expect("joins");
    story.heartbeat(&mut two).expect("joins");
    story.settle(&mut [&mut one, &mut two]);
    let mut next = Consumer::new("next", &["t"]).with_instance("i");
    let words = "Static member next with instance id i cannot join the group because the instance id is owned by one member.";
    assert_eq!(refused(story.send(&next.request())), (ErrorCode::UnreleasedInstanceId, words.into()));
    let heard = story.leave_as(&one, -2).expect("a member");
    assert_eq!(heard.response.member_epoch, -2);
    let (epoch, had) = (one.epoch, one.owned.clone());
    story.heartbeat(&mut next).expect("the next life");
    assert_eq!((next.epoch, &next.owned), (epoch, &had));
    assert_eq!(story.consumer_state(), Some(State::Stable));
    let words = "Static member one with instance id i was fenced by member next.";
    assert_eq!(refused(story.send(&one.request())), (ErrorCode::FencedInstanceId, words.into()));
    let stranger = Consumer { epoch: 3, ..Consumer::new("x", &["t"]) }.with_instance("j");
    let words = "Instance id j is unknown.";
    assert_eq!(refused(story.send(&stranger.request())), (ErrorCode::UnknownMemberId, words.into()));
    // Nobody else's partitions have moved.
    let heard = story.heartbeat(&mut two).expect("a member");
    assert!(heard.is_known);
}

#[test]
fn a_static_member_that_is_not_back_in_time_is_out() {
    let mut story = story();
    let (mut one, mut two) = (Consumer::new("one", &["t"]).with_instance("i"), Consumer::new("two", &["t"]));
    story.heartbeat(&mut one).expect("joins");
    story.heartbeat(&mut two).expect("joins");
    story.settle(&mut [&mut one, &mut two]);
    story.leave_as(&one, -2).expect("a member");
    story.pass(44_000);
    story.heartbeat(&mut two).expect("a member");
    assert_eq!(two.count(), 2);
    story.settle(&mut [&mut two]);
    assert_eq!(two.count(), 4);
}

#[test]
fn topics_that_come_grow_and_go_are_assigned_anew() {
    let mut story = story();
    let mut one = Consumer::new("one", &["t", "later"]);
    story.heartbeat(&mut one).expect("joins");
    story.cluster.put("t", 6);
    story.settle(&mut [&mut one]);
    assert_eq!((one.count(), one.epoch), (6, 3));
    story.cluster.put("other", 3);
    story.settle(&mut [&mut one]);
    assert_eq!((one.count(), one.epoch), (6, 3), "nobody subscribes to it");
    let later = story.cluster.put("later", 2);
    story.settle(&mut [&mut one]);
    assert_eq!((one.count(), one.owned[&later].len()), (8, 2));
    story.cluster.delete("later");
    story.settle(&mut [&mut one]);
    assert_eq!((one.count(), one.epoch), (6, 5));
    let again = story.cluster.put("later", 1);
    story.settle(&mut [&mut one]);
    assert!(again != later && one.owned.contains_key(&again) && one.count() == 7);
}

#[test]
fn a_member_that_subscribes_to_something_else_gives_up_what_it_has_no_use_for() {
    let mut story = story();
    story.cluster.put("u", 2);
    let mut one = Consumer::new("one", &["t"]);
    story.heartbeat(&mut one).expect("joins");
    one.topics = Some(vec!["u".into()]);
    let request = one.subscribing(one.request());
    let heard = story.send(&request).expect("a member");
    one.hear(&heard);
    assert_eq!((one.epoch, one.count()), (2, 0), "within the interval, only what is left out goes");
    story.settle(&mut [&mut one]);
    assert_eq!((one.epoch, one.count()), (3, 2));
}

#[test]
fn members_are_given_what_their_assignor_says() {
    let mut story = story();
    let mut one = Consumer::new("one", &["t"]);
    let mut two = Consumer::new("two", &["t"]);
    for consumer in [&mut one, &mut two] {
        let request = consumer.request().with_server_assignor(Some(text("range")));
        let heard = story.send(&request).expect("joins");
        consumer.hear(&heard);
    }
    story.settle(&mut [&mut one, &mut two]);
    assert_eq!(one.owned.values().flatten().copied().collect::<Vec<_>>(), [0, 1]);
    let described = story.groups.describe_consumer(GROUP).expect("a consumer group");
    assert_eq!((&*described.assignor_name, &*described.group_state), ("range", "Stable"));
    assert_eq!(described.members[0].assignment, described.members[0].target_assignment);
    assert_eq!((described.members.len(), described.members[0].member_type), (2, 1));
    assert_eq!(Assignor::named(&described.assignor_name), Some(Assignor::Range));
}

mod regular_expressions {
    use super::*;

    #[test]
    fn what_they_stand_for_is_found_after_the_first_heartbeat_and_again_when_topics_come() {
        let mut story = story();
        story.cluster.put("hidden", 9);
        let mut one = Consumer::by_regex("one", "t.*|hidden");
        let first = story.heartbeat(&mut one).expect("joins");
        assert!(first.resolve && one.count() == 0);
        story.settle(&mut [&mut one]);
        assert_eq!(one.count(), 4);
        story.cluster.put("t2", 3);
        story.heartbeat(&mut one).expect("a member");
        story.settle(&mut [&mut one]);
        assert_eq!(one.count(), 7);
        let stored = story.log.len();
        story.settle(&mut [&mut one]);
        assert_eq!(story.log.len(), stored, "nothing new");
        let mut story = story.reloaded(settings(ConsumerGroupSettings::default()));
        story.settle(&mut [&mut one]);
        assert_eq!(one.count(), 7);
        story.leave_as(&one, -1).expect("a member");
        let group = story.groups.consumer(GROUP).expect("it is empty");
        assert_eq!((group.resolved.len(), group.is_subscribed_to("t")), (0, false));
    }

    #[test]
    fn what_is_none_is_refused_in_re2s_words() {
        let mut story = story();
        let words = "SubscribedTopicRegex `[` is not a valid regular expression: missing closing ].";
        let refusal = refused(story.heartbeat(&mut Consumer::by_regex("one", "[")));
        assert_eq!(refusal, (ErrorCode::InvalidRegularExpression, words.into()));
        assert_eq!((story.log.len(), story.consumer_state()), (0, None), "nothing is left of it");
    }

    #[test]
    fn a_member_that_takes_a_resolved_one_is_assigned_at_once() {
        let mut story = story();
        let mut one = Consumer::by_regex("one", "t");
        story.heartbeat(&mut one).expect("joins");
        story.settle(&mut [&mut one]);
        let mut two = Consumer::by_regex("two", "t");
        story.pass(1_000);
        let heard = story.heartbeat(&mut two).expect("joins");
        assert!(!heard.resolve && two.epoch == 3);
        story.settle(&mut [&mut one, &mut two]);
        assert_eq!((one.count(), two.count()), (2, 2));
        // Back to names: the expression is still the other's.
        two.topics = Some(vec!["t".into()]);
        two.regex = Some(String::new());
        let request = two.subscribing(two.request());
        story.send(&request).expect("a member");
        story.settle(&mut [&mut one, &mut two]);
        assert_eq!((one.count(), two.count()), (2, 2));
    }
}

mod offsets {
    use super::*;

    #[test]
    fn members_commit_at_their_epoch_or_for_what_they_had_before() {
        let mut story = story();
        let topic = story.cluster.put("t", 4);
        let mut one = Consumer::new("one", &["t"]);
        assert_eq!(story.commit_as("", -1, 9, topic), Ok(()), "a group of offsets alone");
        story.heartbeat(&mut one).expect("joins");
        assert_eq!(story.commit_as("one", 2, 9, topic), Ok(()));
        assert_eq!(story.commit_as("one", 3, 9, topic), Err(ErrorCode::StaleMemberEpoch));
        assert_eq!(story.commit_as("one", 1, 9, topic), Err(ErrorCode::StaleMemberEpoch));
        assert_eq!(story.commit_as("two", 2, 9, topic), Err(ErrorCode::UnknownMemberId));
        assert_eq!(story.commit_as("", -1, 9, topic), Err(ErrorCode::UnknownMemberId));
        assert_eq!(story.commit_as("one", 2, 8, topic), Err(ErrorCode::UnsupportedVersion));
        story.cluster.put("t", 5);
        story.pass(1_000);
        story.heartbeat(&mut one).expect("a member");
        assert_eq!(one.epoch, 3);
        // It had partition 0 at epoch 2 and never gave it up.
        assert_eq!(story.commit_as("one", 2, 9, topic), Ok(()));
        assert_eq!(story.commit_as("one", 2, 9, Uuid::from_u128(5)), Err(ErrorCode::StaleMemberEpoch));
        let fetch =
            |story: &Story, member| story.groups.fetch_offsets(GROUP, OffsetsWanted::All, true, member);
        assert!(fetch(&story, (Some("one"), 3)).is_ok() && fetch(&story, (None, -1)).is_ok());
        assert_eq!(fetch(&story, (Some("one"), 2)).err(), Some(ErrorCode::StaleMemberEpoch));
        assert_eq!(fetch(&story, (Some("two"), 2)).err(), Some(ErrorCode::UnknownMemberId));
        assert_eq!(story.groups.check_offset_delete(GROUP), Ok(()));
        story.leave_as(&one, -1).expect("a member");
        assert_eq!(story.commit_as("", -1, 2, topic), Ok(()), "an administrator, in an empty group");
    }

    #[test]
    fn those_of_topics_that_nobody_subscribes_to_expire() {
        let mut story = story();
        let topic = story.cluster.put("t", 4);
        let mut one = Consumer::new("one", &["t"]);
        story.heartbeat(&mut one).expect("joins");
        story.commit_as("one", one.epoch, 9, topic).expect("a member");
        let week = GroupSettings::default().offsets_retention.as_millis() as u64;
        for _ in 0..week / 40_000 + 100 {
            story.pass(40_000);
            story.heartbeat(&mut one).expect("a member");
        }
        assert_eq!(story.committed(), 7);
        story.leave_as(&one, -1).expect("a member");
        story.pass(700_000);
        assert_eq!((story.committed(), story.consumer_state()), (-1, None));
    }
}

mod with_classic_members {
    use super::*;

    fn classic_joined(story: &mut Story, id: &str) -> (String, i32) {
        let ticket = story.park_join(9, &known(id, &["range"]));
        let joined = story.joined(ticket).expect("nobody is waited for");
        assert_eq!(joined.error_code, 0, "{joined:?}");
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        (joined.member_id.to_string(), joined.generation_id)
    }

    /// The partitions of topic "t" that a member of the classic protocol is told it has.
    fn synced(story: &mut Story, id: &str, generation: i32) -> Result<Vec<i32>, i16> {
        let ticket = story.park_sync(id, generation, &[]);
        let synced = story.synced(ticket).expect("nobody is waited for");
        if synced.error_code != 0 {
            return Err(synced.error_code);
        }
        let assignment = thalweg_protocol::decode_assignment(synced.assignment).expect("well-formed");
        Ok(assignment.assigned_partitions.into_iter().flat_map(|topic| topic.partitions).collect())
    }

    /// Joins again until there is nothing more to do, as Java's consumer does.
    fn follow(story: &mut Story, id: &str, generation: &mut i32) -> Vec<i32> {
        for _ in 0..10 {
            if story.beat(id, *generation).is_ok() {
                break;
            }
            *generation = classic_joined(story, id).1;
        }
        synced(story, id, *generation).expect("a member")
    }

    #[test]
    fn a_classic_group_becomes_a_consumer_group_with_its_first_new_member_and_goes_back_with_the_last() {
        let mut story = story();
        let (ids, mut generation) = story.stable(1);
        // What the members of these tests are assigned is no assignment, so the group can't be taken over yet.
        let mut new = Consumer::new("new", &["t"]);
        let words = "Cannot upgrade classic group g to consumer group because the embedded consumer protocol is malformed.";
        assert_eq!(refused(story.heartbeat(&mut new)), (ErrorCode::GroupIdNotFound, words.into()));
        assert_eq!(story.beat(&ids[0], generation), Ok(()));
        let (ids, old) = with_real_assignment(story);
        story = old;
        generation += 1;
        story.heartbeat(&mut new).expect("joins");
        assert_eq!(story.consumer_state(), Some(State::Reconciling));
        assert_eq!(story.groups.list(&[], &["Consumer".into()]).len(), 1);
        story.pass(1_000);
        story.heartbeat(&mut new).expect("a member");
        assert_eq!(story.beat(&ids[0], generation), Err(ErrorCode::RebalanceInProgress));
        let has = follow(&mut story, &ids[0], &mut generation);
        assert_eq!(has.len(), 2, "{has:?}");
        story.pass(1_000);
        story.heartbeat(&mut new).expect("a member");
        assert_eq!((new.count(), story.consumer_state()), (2, Some(State::Stable)));
        let described = story.groups.describe_consumer(GROUP).expect("a consumer group");
        let kinds: BTreeSet<i8> = described.members.iter().map(|member| member.member_type).collect();
        assert_eq!(kinds, BTreeSet::from([0, 1]));
        let mut story = story.reloaded(settings(ConsumerGroupSettings::default()));
        assert_eq!(story.beat(&ids[0], generation), Ok(()));
        story.leave_as(&new, -1).expect("a member");
        assert_eq!(story.consumer_state(), None);
        assert_eq!(story.groups.list(&[], &["classic".into()]).len(), 1);
        let (_, generation) = story.join_all(&ids);
        assert_eq!(story.beat(&ids[0], generation), Ok(()));
        let mut story = story.reloaded(settings(ConsumerGroupSettings::default()));
        assert_eq!(story.beat(&ids[0], generation), Ok(()));
    }

    /// A classic group of one member that has all of topic "t".
    fn with_real_assignment(mut story: Story) -> (Vec<String>, Story) {
        let all = thalweg_protocol::ConsumerProtocolAssignment {
            assigned_partitions: vec![thalweg_protocol::consumer_protocol_assignment::TopicPartition {
                topic: text("t"),
                partitions: vec![0, 1, 2, 3],
            }],
            ..Default::default()
        };
        let id = story.groups.classic(GROUP).expect("there").member_ids()[0].to_string();
        let ticket = story.park_join(9, &known(&id, &["range"]));
        let generation = story.joined(ticket).expect("alone").generation_id;
        let bytes = thalweg_protocol::encode_assignment(&all, 1);
        let ticket = story.park_assignment(&id, generation, bytes);
        story.synced(ticket).expect("alone");
        (vec![id], story)
    }

    #[test]
    fn a_classic_member_joins_a_consumer_group_and_leaves_it() {
        let mut story = story();
        let mut new = Consumer::new("new", &["t"]);
        story.heartbeat(&mut new).expect("joins");
        story.pass(1_000);
        let id = story.new_id(&member(&["range"]));
        let (id, mut generation) = classic_joined(&mut story, &id);
        assert_eq!(synced(&mut story, &id, generation), Ok(vec![]));
        assert_eq!(synced(&mut story, &id, generation - 1), Err(ErrorCode::IllegalGeneration.code()));
        assert_eq!(story.beat(&id, generation), Ok(()), "what is to be its is not free yet");
        story.settle_with(&mut new);
        assert_eq!(story.beat(&id, generation), Err(ErrorCode::RebalanceInProgress), "now it is");
        assert_eq!(follow(&mut story, &id, &mut generation).len(), 2);
        assert_eq!(story.consumer_state(), Some(State::Stable));
        let topic = story.cluster.topic("t").expect("there").id;
        assert_eq!(story.commit_as(&id, generation + 1, 5, topic), Err(ErrorCode::IllegalGeneration));
        assert_eq!(story.commit_as(&id, generation, 5, topic), Ok(()));
        assert_eq!(story.leave(&[(&id, None), ("nobody", None)]), [0, ErrorCode::UnknownMemberId.code()]);
        story.settle(&mut [&mut new]);
        assert_eq!(new.count(), 4);
    }

    #[test]
    fn a_classic_member_that_does_not_join_again_in_time_is_out() {
        let mut story = story();
        let mut new = Consumer::new("new", &["t"]);
        story.heartbeat(&mut new).expect("joins");
        story.pass(1_000);
        let (id, generation) = {
            let id = story.new_id(&member(&["range"]));
            classic_joined(&mut story, &id)
        };
        synced(&mut story, &id, generation).expect("a member");
        story.settle_with(&mut new);
        for _ in 0..7 {
            assert_eq!(story.beat(&id, generation), Err(ErrorCode::RebalanceInProgress));
            story.pass(9_000);
            story.heartbeat(&mut new).expect("a member");
        }
        assert_eq!(story.beat(&id, generation), Err(ErrorCode::UnknownMemberId));
        story.settle(&mut [&mut new]);
        assert_eq!(new.count(), 4);
    }

    #[test]
    fn groups_stay_what_they_are_where_that_is_wanted() {
        let policy = |migration| settings(ConsumerGroupSettings { migration, ..Default::default() });
        let mut story = Story::with(policy(MigrationPolicy::Disabled));
        story.stable(1);
        let words = "Cannot upgrade classic group g to consumer group because online upgrade is disabled.";
        let refusal = refused(story.heartbeat(&mut Consumer::new("new", &["t"])));
        assert_eq!(refusal, (ErrorCode::GroupIdNotFound, words.into()));
        let mut story = Story::with(policy(MigrationPolicy::Disabled));
        story.heartbeat(&mut Consumer::new("new", &["t"])).expect("joins");
        assert_eq!(
            story.join(9, &member(&["range"])).error_code,
            ErrorCode::InconsistentGroupProtocol.code()
        );
        let mut story = Story::with(policy(MigrationPolicy::Upgrade));
        let new = Consumer::new("new", &["t"]);
        story.heartbeat(&mut new.clone()).expect("joins");
        let id = story.new_id(&member(&["range"]));
        classic_joined(&mut story, &id);
        story.leave_as(&new, -1).expect("a member");
        assert!(story.consumer_state().is_some(), "it may not become a classic group");
    }

    #[test]
    fn an_empty_group_takes_the_type_of_who_joins_next() {
        let mut story = story();
        let (ids, _) = story.stable(1);
        story.leave(&[(&ids[0], None)]);
        let mut new = Consumer::new("new", &["t"]);
        story.heartbeat(&mut new).expect("joins");
        assert_eq!(story.consumer_state(), Some(State::Stable));
        assert_eq!(
            &*story.groups.describe(GROUP, 6).error_message.expect("told"),
            "Group g is not a classic group."
        );
        story.leave_as(&new, -1).expect("a member");
        let (ids, generation) = story.stable(1);
        assert_eq!(story.beat(&ids[0], generation), Ok(()));
        let refusal = refused(story.groups.describe_consumer(GROUP));
        assert_eq!(refusal, (ErrorCode::GroupIdNotFound, "Group g is not a consumer group.".into()));
        let mut story = story.reloaded(settings(ConsumerGroupSettings::default()));
        assert_eq!(story.beat(&ids[0], generation), Ok(()));
    }

    #[test]
    fn a_group_whose_conversion_cannot_be_stored_is_what_it_was() {
        let mut story = story();
        story.stable(1);
        let (ids, mut story) = with_real_assignment(story);
        story.held = Some(Vec::new());
        let mut new = Consumer::new("new", &["t"]);
        story.heartbeat(&mut new).expect("joins");
        assert!(story.consumer_state().is_some());
        story.release(Err(ErrorCode::UnknownServerError));
        assert_eq!((story.consumer_state(), story.beat(&ids[0], 2)), (None, Ok(())));
    }
}

impl Story {
    /// Heartbeats of one member, until it has given up what it must.
    fn settle_with(&mut self, consumer: &mut Consumer) {
        for _ in 0..5 {
            self.pass(1_000);
            self.heartbeat(consumer).expect("a member");
        }
    }
}

#[test]
fn what_was_stored_is_what_is_loaded() {
    let mut story = story();
    let mut all: Vec<_> = (0..5).map(|n| Consumer::new(&format!("m{n}"), &["t"])).collect();
    all[0] = all[0].clone().with_instance("i");
    all[4] = Consumer::by_regex("m4", "t|u");
    for consumer in &mut all {
        story.heartbeat(consumer).expect("joins");
        story.pass(1_500);
    }
    let before = format!("{:?}", hard(&story));
    let story = story.reloaded(settings(ConsumerGroupSettings::default()));
    assert_eq!(format!("{:?}", hard(&story)), before);
}

/// What of a group must survive.
fn hard(story: &Story) -> impl std::fmt::Debug {
    let group = story.groups.consumer(GROUP).expect("there").clone();
    group.check();
    let epochs = (group.epoch, group.assignment_epoch, group.assignment_ms, group.metadata_hash);
    (epochs, group.bytes(), group.state(), group.members, group.target, group.resolved, group.static_members)
}

#[test]
fn ten_thousand_members_share_a_topic_and_their_heartbeats_cost_nothing() {
    let mut story = story();
    story.cluster.put("t", 10_000);
    let mut all: Vec<_> = (0..10_000).map(|n| Consumer::new(&format!("member-{n}"), &["t"])).collect();
    for consumer in &mut all {
        story.send_unchecked(consumer);
    }
    for _ in 0..6 {
        story.pass(2_000);
        for consumer in &mut all {
            story.send_unchecked(consumer);
        }
    }
    assert_eq!(story.consumer_state(), Some(State::Stable));
    assert!(all.iter().all(|consumer| consumer.count() == 1));
    let (stored, bytes) = (story.log.len(), story.groups.bytes());
    assert!((10_000_000..40_000_000).contains(&bytes), "{bytes}");
    for consumer in &mut all {
        story.send_unchecked(consumer);
    }
    assert_eq!(story.log.len(), stored);
    story.groups.check_all();
    story.pass(45_000);
    assert!(story.groups.bytes() < 2_000, "{}", story.groups.bytes());
}

#[test]
fn without_memory_nobody_new_is_taken_in_and_who_is_there_goes_on() {
    let mut story = story();
    let mut one = Consumer::new("one", &["t"]);
    story.heartbeat(&mut one).expect("joins");
    story.has_room = false;
    let two = story.heartbeat(&mut Consumer::new("two", &["t"]));
    assert_eq!(refused(two).0, ErrorCode::CoordinatorNotAvailable);
    story.heartbeat(&mut one).expect("a member");
    let larger = Consumer { topics: Some(vec!["t".into(), "u".into()]), ..one.clone() };
    let request = larger.subscribing(larger.request());
    assert_eq!(refused(story.send(&request)).0, ErrorCode::CoordinatorNotAvailable);
}

impl Story {
    /// Without the checks over the whole group.
    fn send_unchecked(&mut self, consumer: &mut Consumer) {
        let client = Client { id: "client", host: "/127.0.0.1", has_room: true };
        let request = consumer.request();
        let heard =
            self.run(|groups, now, effects| groups.consumer_heartbeat(client, &request, now, effects));
        consumer.hear(&heard.expect("a member"));
    }
}
