//! What can be told of a ConsumerGroupHeartbeat without its group.

use super::{LEFT_FOR_A_WHILE, LEFT_FOR_GOOD, refusal::Refusal};
use crate::coordinator::groups::GroupSettings;
use thalweg_protocol::{ErrorCode, messages::ConsumerGroupHeartbeatRequest};

/// From this version clients make their own member ids (KIP-1082).
const OWN_MEMBER_IDS: i16 = 1;

/// Whether a request of `version` makes sense.
pub fn check_heartbeat(
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
    settings: &GroupSettings,
) -> Result<(), Refusal> {
    let epoch = request.member_epoch;
    if version >= OWN_MEMBER_IDS || epoch > 0 || epoch == LEFT_FOR_GOOD {
        not_blank(Some(&request.member_id), "MemberId can't be empty.")?;
    }
    not_blank(Some(&request.group_id), "GroupId can't be empty.")?;
    not_blank(request.instance_id.as_deref(), "InstanceId can't be empty.")?;
    not_blank(request.rack_id.as_deref(), "RackId can't be empty.")?;
    if epoch == 0 {
        check_join(request)?;
    } else if epoch == LEFT_FOR_A_WHILE && request.instance_id.is_none() {
        return Err(invalid("InstanceId can't be null."));
    } else if epoch < LEFT_FOR_A_WHILE {
        return Err(invalid("MemberEpoch is invalid."));
    }
    // They are parts of keys, whose lengths have 16 bits. Kafka finds out when it writes the record.
    if request.group_id.len().max(request.member_id.len()) > i16::MAX as usize {
        return Err(ErrorCode::UnknownServerError.into());
    }
    check_assignor(request, settings)
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    if request.rebalance_timeout_ms == -1 {
        return Err(invalid("RebalanceTimeoutMs must be provided in first request."));
    }
    if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return Err(invalid("TopicPartitions must be empty when (re-)joining."));
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        let both = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
        return Err(invalid(both));
    }
    Ok(())
}

fn check_assignor(request: &ConsumerGroupHeartbeatRequest, settings: &GroupSettings) -> Result<(), Refusal> {
    let Some(wanted) = request.server_assignor.as_deref() else { return Ok(()) };
    let known: Vec<_> = settings.consumer.assignors.iter().map(|known| known.name()).collect();
    if known.contains(&wanted) {
        return Ok(());
    }
    let known = known.join(", ");
    let message = format!("ServerAssignor {wanted} is not supported. Supported assignors: {known}.");
    Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
}

fn not_blank(text: Option<&str>, message: &'static str) -> Result<(), Refusal> {
    // As Java trims: everything up to the space.
    let is_blank = |text: &str| text.chars().all(|letter| letter <= ' ');
    if text.is_some_and(is_blank) { Err(invalid(message)) } else { Ok(()) }
}

fn invalid(message: &'static str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}
