//! One member of a consumer group.

use super::{
    super::classic::text,
    partitions::{Owned, weight_owned},
};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use std::{collections::BTreeSet, sync::Arc};
use thalweg_protocol::coordinator_records::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue,
};
use thalweg_runtime::Random;

/// How far a member has come towards its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has what its epoch gives it.
    Stable,
    /// It must give partitions up before its epoch moves on.
    UnrevokedPartitions,
    /// Its epoch is the target's, and it waits for partitions that others have not given up yet.
    UnreleasedPartitions,
    /// Written by a version to come.
    Unknown,
}

impl MemberState {
    pub(super) fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    pub(super) fn of_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub(in crate::coordinator::groups) id: Arc<str>,
    pub(in crate::coordinator::groups) details: Details,
    pub(in crate::coordinator::groups) epoch: i32,
    /// A client that has missed the answer which raised its epoch comes with this one.
    pub(super) previous_epoch: i32,
    pub(super) state: MemberState,
    pub(in crate::coordinator::groups) assigned: Owned,
    /// What it has and must give up.
    pub(in crate::coordinator::groups) revoking: Owned,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// `group.instance.id`: set for static members (KIP-345).
    pub(in crate::coordinator::groups) instance: Option<Arc<str>>,
    pub(super) rack: Option<Arc<str>>,
    pub(in crate::coordinator::groups) client_id: Arc<str>,
    pub(in crate::coordinator::groups) client_host: Arc<str>,
    pub(super) topics: BTreeSet<Arc<str>>,
    /// The regular expression that it subscribes by; empty for none.
    pub(super) regex: Arc<str>,
    pub(in crate::coordinator::groups) rebalance_timeout_ms: i32,
    /// The server's assignor that it asks for.
    pub(super) assignor: Option<Arc<str>>,
    /// Set for one that speaks the classic protocol.
    pub(in crate::coordinator::groups) classic: Option<ClassicPart>,
}

/// What a member of the classic protocol has beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicPart {
    pub(in crate::coordinator::groups) session_timeout_ms: i32,
    /// The protocols (assignors) that it knows, best first, each with its subscription.
    pub(in crate::coordinator::groups) protocols: Vec<(Arc<str>, Bytes)>,
}

/// What a member weighs beside its strings and partitions, with its places in the maps of its group and its timers.
const OVERHEAD: usize = 1_400;
/// What a topic name weighs, or a protocol, beside its letters.
const NAME: usize = 64;

impl Member {
    /// One that has not said anything yet.
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            details: Details::default(),
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }

    /// Raises the epoch, or repeats it.
    pub(super) fn at_epoch(mut self, epoch: i32) -> Self {
        self.previous_epoch = std::mem::replace(&mut self.epoch, epoch);
        self
    }

    /// Whether it has all that the target of `epoch` gives it.
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// Whether it must give partitions up before anything else.
    pub(super) fn is_revoking(&self) -> bool {
        self.state == MemberState::UnrevokedPartitions
    }

    pub(in crate::coordinator::groups) fn is_classic(&self) -> bool {
        self.details.classic.is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        OVERHEAD
            + 3 * self.id.len()
            + self.details.bytes()
            + weight_owned(&self.assigned)
            + weight_owned(&self.revoking)
    }
}

impl Default for Details {
    fn default() -> Self {
        Self {
            instance: None,
            rack: None,
            client_id: "".into(),
            client_host: "".into(),
            topics: BTreeSet::new(),
            regex: "".into(),
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

impl Details {
    pub(super) fn of_record(record: ConsumerGroupMemberMetadataValue) -> Self {
        let shared = |text: &str| Arc::<str>::from(text);
        let classic = |classic: ClassicMemberMetadata| ClassicPart {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic
                .supported_protocols
                .into_iter()
                .map(|one| (shared(&one.name), Bytes::copy_from_slice(&one.metadata)))
                .collect(),
        };
        Self {
            instance: record.instance_id.as_deref().map(shared),
            rack: record.rack_id.as_deref().map(shared),
            client_id: shared(&record.client_id),
            client_host: shared(&record.client_host),
            topics: record.subscribed_topic_names.iter().map(|name| shared(name)).collect(),
            regex: shared(record.subscribed_topic_regex.as_deref().unwrap_or_default()),
            rebalance_timeout_ms: record.rebalance_timeout_ms,
            assignor: record.server_assignor.as_deref().map(shared),
            classic: record.classic_member_metadata.map(classic),
        }
    }

    pub(super) fn to_record(&self) -> ConsumerGroupMemberMetadataValue {
        let optional = |value: &Option<Arc<str>>| value.as_deref().map(text);
        let protocol = |(name, metadata): &(Arc<str>, Bytes)| ClassicProtocol {
            name: text(name),
            metadata: metadata.clone(),
        };
        let classic = |classic: &ClassicPart| ClassicMemberMetadata {
            session_timeout_ms: classic.session_timeout_ms,
            supported_protocols: classic.protocols.iter().map(protocol).collect(),
        };
        ConsumerGroupMemberMetadataValue {
            instance_id: optional(&self.instance),
            rack_id: optional(&self.rack),
            client_id: text(&self.client_id),
            client_host: text(&self.client_host),
            subscribed_topic_names: self.topics.iter().map(|name| text(name)).collect(),
            subscribed_topic_regex: Some(text(&self.regex)),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: optional(&self.assignor),
            classic_member_metadata: self.classic.as_ref().map(classic),
        }
    }

    /// The regular expression, where there is one.
    pub(super) fn regex(&self) -> Option<&Arc<str>> {
        Some(&self.regex).filter(|regex| !regex.is_empty())
    }

    pub(super) fn bytes(&self) -> usize {
        let optional = |value: &Option<Arc<str>>| value.as_ref().map_or(0, |value| value.len());
        let classic = self.classic.iter().flat_map(|classic| &classic.protocols);
        let classic: usize = classic.map(|(name, metadata)| NAME + name.len() + metadata.len()).sum();
        let topics: usize = self.topics.iter().map(|name| NAME + name.len()).sum();
        let strings = self.client_id.len() + self.client_host.len() + self.regex.len();
        let optionals = 2 * optional(&self.instance) + optional(&self.rack) + optional(&self.assignor);
        strings + optionals + topics + classic
    }
}

/// An id for a member that has none, as Kafka writes UUIDs; never one that looks like an option of a command.
pub(super) fn new_id(random: &Random) -> Arc<str> {
    loop {
        let id = BASE64_URL_SAFE_NO_PAD.encode(random.uuid().as_bytes());
        if !id.starts_with('-') {
            return id.into();
        }
    }
}
