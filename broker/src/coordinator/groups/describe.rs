//! DescribeGroups and ListGroups.

use super::{
    Group, Groups,
    classic::{ClassicGroup, Member, State, text},
};
use thalweg_protocol::{
    ErrorCode,
    messages::{
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        list_groups_response::ListedGroup,
    },
};

/// From this version a group that isn't there is an error (KIP-1043).
const NOT_FOUND: i16 = 6;

impl Groups {
    /// One group, as DescribeGroups of `version` tells.
    pub fn describe(&self, id: &str, version: i16) -> DescribedGroup {
        match (self.classic(id), self.groups.contains_key(id)) {
            (Some(group), _) => described(group, id),
            (None, known) => {
                let why = if known { "is not a classic group" } else { "not found" };
                let dead =
                    DescribedGroup::default().with_group_id(text(id).into()).with_group_state(text("Dead"));
                match version >= NOT_FOUND {
                    false => dead,
                    true => dead
                        .with_error_code(ErrorCode::GroupIdNotFound.code())
                        .with_error_message(Some(text(&format!("Group {id} {why}.")))),
                }
            }
        }
    }

    /// The groups in one of the states and of one of the types; no filter lets all through. Case doesn't count.
    pub fn list(&self, states: &[String], types: &[String]) -> Vec<ListedGroup> {
        let passes = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        };
        let groups = self.groups.iter().filter(|(_, group)| {
            let is_kind = |wanted: &String| wanted.eq_ignore_ascii_case(group.type_name());
            passes(states, group.state_name()) && (types.is_empty() || types.iter().any(is_kind))
        });
        groups.map(|(id, group)| listed(id, group)).collect()
    }
}

fn listed(id: &str, group: &Group) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(text(id).into())
        .with_protocol_type(text(group.protocol_type()))
        .with_group_state(text(group.state_name()))
        .with_group_type(text(group.type_name()))
}

/// Which protocol the members work by is told of a stable group alone, as its metadata with them.
fn described(group: &ClassicGroup, id: &str) -> DescribedGroup {
    let stable = group.state() == State::Stable;
    let protocol = group.protocol().filter(|_| stable).map_or("", |name| name);
    DescribedGroup::default()
        .with_group_id(text(id).into())
        .with_group_state(text(group.state().name()))
        .with_protocol_type(text(group.protocol_type().map_or("", |name| name)))
        .with_protocol_data(text(protocol))
        .with_members(
            group.members().map(|member| describe_member(member, stable.then_some(protocol))).collect(),
        )
}

fn describe_member(member: &Member, protocol: Option<&str>) -> DescribedGroupMember {
    let described = member.describe();
    match protocol {
        Some(protocol) => described.with_member_metadata(member.metadata(protocol)),
        None => described,
    }
}
