//! ConsumerGroupHeartbeat: a member joins, leaves, or learns what it is to have (KIP-848).

use super::Handlers;
use crate::{
    context::{Operation, RequestContext},
    coordinator::{
        GroupShard,
        groups::consumer::{Client, Refusal, check_heartbeat},
    },
};
use std::sync::Arc;
use thalweg_protocol::{ErrorCode, messages::*};
use thalweg_runtime::Charge;

impl Handlers {
    pub(super) async fn consumer_group_heartbeat(
        &self,
        context: &RequestContext,
        version: i16,
        request: ConsumerGroupHeartbeatRequest,
        charge: Charge,
    ) -> ConsumerGroupHeartbeatResponse {
        self.heartbeat_of_member(context, version, request, charge).await.unwrap_or_else(|refusal| {
            ConsumerGroupHeartbeatResponse::default()
                .with_error_code(refusal.code.code())
                .with_error_message(refusal.text())
        })
    }

    async fn heartbeat_of_member(
        &self,
        context: &RequestContext,
        version: i16,
        request: ConsumerGroupHeartbeatRequest,
        charge: Charge,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        if !self.broker.stored.has_consumer_groups() {
            return Err(ErrorCode::UnsupportedVersion.into());
        }
        if !self.allows_group(context, Operation::Read, &request.group_id) {
            return Err(ErrorCode::GroupAuthorizationFailed.into());
        }
        let topics = request.subscribed_topic_names.iter().flatten();
        if topics.into_iter().any(|topic| !self.allows_topic(context, Operation::Describe, topic)) {
            return Err(ErrorCode::TopicAuthorizationFailed.into());
        }
        check_heartbeat(&request, version, &self.broker.settings.groups)?;
        let shard = self.broker.group_shard(&request.group_id)?;
        let host = format!("/{}", context.client.ip());
        let client_id = context.client_id.as_deref().unwrap_or_default();
        let client = Client { id: client_id, host: &host, has_room: shard.has_room() };
        let pending =
            shard.run(|groups, now, effects| groups.consumer_heartbeat(client, &request, now, effects))?;
        if pending.peek().as_ref().is_ok_and(|heartbeat| heartbeat.resolve) {
            self.resolve_regexes(context, shard, &request.group_id);
        }
        // Waiting for a PUT must not take memory from requests that wait for none.
        drop((request, charge));
        let is_known = pending.peek().as_ref().is_ok_and(|heartbeat| heartbeat.is_known);
        let heartbeat = if is_known { pending.at_once() } else { pending.durable().await? };
        heartbeat.map(|heartbeat| heartbeat.response)
    }

    /// Resolves the regular expressions that a group's members subscribe by, in a task of its own, as far as whoever asks may see
    /// the topics.
    fn resolve_regexes(&self, context: &RequestContext, shard: Arc<GroupShard>, group: &str) {
        let (handlers, context, group) = (self.clone(), context.clone(), group.to_owned());
        let task = self.broker.runtime.spawn(async move {
            let begun = shard.run(|groups, now, _| groups.begin_resolving(&group, now));
            let Some(resolving) = begun.ok().and_then(|begun| begun.at_once()) else { return };
            let found =
                resolving.resolve(|topic| handlers.allows_topic(&context, Operation::Describe, topic)).await;
            let stored = shard.run(|groups, _, effects| groups.resolved(&group, &resolving, found, effects));
            if let Err(code) = stored {
                tracing::debug!(%group, ?code, "what regular expressions stand for could not be stored");
            }
        });
        task.detach();
    }
}
