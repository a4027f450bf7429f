//! A member of the group: joins, is given the input or not, beats, leaves, is thrown out.

use super::{
    GROUP, Workers,
    caller::{Caller, Failure, NO_ANSWER, Outcome, unless_error},
    session::Session,
    text,
};
use bytes::Bytes;
use thalweg_protocol::{ErrorCode, Response, messages::*};
use tokio::time::sleep;

use join_group_request::JoinGroupRequestProtocol;
use leave_group_request::MemberIdentity;
use sync_group_request::SyncGroupRequestAssignment;

const SESSION_TIMEOUT_MS: i32 = 6_000;
const REBALANCE_TIMEOUT_MS: i32 = 5_000;
const PROTOCOL: &str = "one";
/// The plan of who has the input.
const OWNS: Bytes = Bytes::from_static(b"the input");

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All is as before, as far as can be known.
    Stable,
    /// The group waits for this member to join again.
    Rebalancing,
    /// The group knows it no more.
    Out,
}

/// A member in one generation.
pub struct Member {
    id: StrBytes,
    generation: i32,
    owns: bool,
}

impl Workers {
    /// In the group again and again: works while the input is this member's, else waits.
    pub(super) async fn work_as_member(&self, name: String) {
        let mut caller = Caller::new(self);
        let mut id = StrBytes::default();
        while !self.stopped() {
            sleep(self.world.millis(1, 500)).await;
            let Ok(mut member) = Member::join(self, &mut caller, &mut id).await else { continue };
            self.world.event(format_args!("{name} in {}: {}", member.generation, member.owns));
            if member.owns
                && let Some(mut session) =
                    Session::begin(self, &mut caller, &name, &name, Some(&member)).await
            {
                session.run(&mut caller, Some(&mut member)).await;
            } else {
                member.wait(self, &mut caller).await;
            }
            if self.stopped() || self.world.one_in(6) {
                member.leave(&mut caller).await;
                id = StrBytes::default();
            }
        }
    }
}

impl Member {
    /// Joins, and waits for the plan. `id` is the one that the member has, or none; it is given one.
    async fn join(workers: &Workers, caller: &mut Caller, id: &mut StrBytes) -> Result<Self, Failure> {
        let answer = loop {
            let answer = caller.ask(9, join_request(id), of_join).await;
            match answer.inspect_err(|_| *id = StrBytes::default())? {
                // A new member comes back with the id that it was given.
                (ErrorCode::MemberIdRequired, answer) => *id = answer.member_id,
                (_, answer) => break answer,
            }
        };
        id.clone_from(&answer.member_id);
        let mut assignments = Vec::new();
        if answer.leader == answer.member_id {
            let members = &answer.members;
            let chosen = workers.world.random().range(0..members.len() as u64) as usize;
            let assign = |(at, member): (usize, &join_group_response::JoinGroupResponseMember)| {
                let assignment = if at == chosen { OWNS } else { Bytes::new() };
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(assignment)
            };
            assignments = members.iter().enumerate().map(assign).collect();
        }
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id(answer.generation_id)
            .with_member_id(id.clone())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text(PROTOCOL)))
            .with_assignments(assignments);
        let plan = caller.ask(5, request, of_sync).await;
        let plan = plan.inspect_err(|failure| {
            if *failure != Failure::Refused(ErrorCode::RebalanceInProgress) {
                *id = StrBytes::default();
            }
        })?;
        workers.ledger.assigned(answer.generation_id);
        Ok(Self { id: id.clone(), generation: answer.generation_id, owns: plan == OWNS })
    }

    /// Its id.
    pub fn id(&self) -> &StrBytes {
        &self.id
    }

    /// The generation that it has its plan of.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Says that it lives.
    pub async fn beat(&mut self, caller: &mut Caller) -> State {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(GROUP)))
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        match caller.ask_once(4, request, of_heartbeat).await {
            Ok(()) | Err(Failure::Unanswered) => State::Stable,
            Err(Failure::Refused(ErrorCode::RebalanceInProgress)) => State::Rebalancing,
            Err(Failure::Refused(_)) => State::Out,
        }
    }

    /// Beats until it is to join again, or some time has passed.
    async fn wait(&mut self, workers: &Workers, caller: &mut Caller) {
        for _ in 0..workers.world.random().range(1..20) {
            sleep(workers.world.millis(100, 2000)).await;
            if workers.stopped() || self.beat(caller).await != State::Stable {
                return;
            }
        }
    }

    async fn leave(&self, caller: &mut Caller) {
        let member = MemberIdentity::default().with_member_id(self.id.clone());
        let request =
            LeaveGroupRequest::default().with_group_id(GroupId(text(GROUP))).with_members(vec![member]);
        // Who isn't heard is thrown out in time.
        let _ = caller.ask_once(5, request, of_leave).await;
    }
}

fn join_request(id: &StrBytes) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text(PROTOCOL));
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_session_timeout_ms(SESSION_TIMEOUT_MS)
        .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
        .with_member_id(id.clone())
        .with_protocol_type(text("consumer"))
        // A subscription of version 0 to no topic.
        .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"))])
}

fn of_join(response: Response) -> Outcome<(ErrorCode, JoinGroupResponse)> {
    let Response::JoinGroup(answer) = response else { return Err(NO_ANSWER) };
    match ErrorCode::from_code(answer.error_code) {
        code @ (ErrorCode::None | ErrorCode::MemberIdRequired) => Ok((code, answer)),
        code => Err(code),
    }
}

fn of_sync(response: Response) -> Outcome<Bytes> {
    let Response::SyncGroup(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.error_code, answer.assignment)
}

fn of_heartbeat(response: Response) -> Outcome<()> {
    let Response::Heartbeat(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.error_code, ())
}

fn of_leave(response: Response) -> Outcome<()> {
    let Response::LeaveGroup(answer) = response else { return Err(NO_ANSWER) };
    unless_error(answer.error_code, ())
}
