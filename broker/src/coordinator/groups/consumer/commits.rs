//! Who may commit offsets of a consumer group, and who may ask for them.

use super::{group::ConsumerGroup, member::Member};
use thalweg_protocol::ErrorCode;
use uuid::Uuid;

/// From this version on OffsetCommit carries member epochs.
const MEMBER_EPOCHS: i16 = 9;

/// Whoever commits.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    /// Member id.
    pub member: &'a str,
    /// Instance id.
    pub instance: Option<&'a str>,
    /// Member epoch, or generation.
    pub epoch: i32,
}

impl Committer<'_> {
    /// Whether it is nobody: an old producer's transactional commit.
    fn is_nobody(self) -> bool {
        self.epoch == -1 && self.member.is_empty() && self.instance.is_none()
    }
}

/// For which partitions a commit is accepted.
#[derive(Clone, Copy)]
pub enum MayCommit<'a> {
    /// All.
    All,
    /// Those that the member got at `epoch` or before, and still has: its client hasn't heard yet of its new epoch.
    Older {
        /// The member.
        member: &'a Member,
        /// The epoch that its client knows.
        epoch: i32,
    },
}

impl MayCommit<'_> {
    /// Whether an offset of the partition may be committed.
    pub fn check(self, topic: Uuid, partition: i32) -> Result<(), ErrorCode> {
        let Self::Older { member, epoch } = self else { return Ok(()) };
        let since = [&member.assigned, &member.revoking]
            .into_iter()
            .find_map(|owned| owned.get(&topic).and_then(|partitions| partitions.get(&partition)));
        if since.is_some_and(|since| *since <= epoch) { Ok(()) } else { Err(stale(member)) }
    }
}

/// How a member is told that its epoch is not its own, in the words of its protocol.
fn stale(member: &Member) -> ErrorCode {
    if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

impl ConsumerGroup {
    /// Whether a commit may come from whom it says. `version` is that of OffsetCommit; none in a transaction.
    pub(in crate::coordinator::groups) fn check_commit(
        &self,
        from: Committer<'_>,
        version: Option<i16>,
    ) -> Result<MayCommit<'_>, ErrorCode> {
        // An administrator, or a consumer that assigns partitions to itself.
        if from.epoch < 0 && self.is_empty() || version.is_none() && from.is_nobody() {
            return Ok(MayCommit::All);
        }
        let member = self.members.get(from.member).ok_or(ErrorCode::UnknownMemberId)?;
        if version.is_some_and(|version| version < MEMBER_EPOCHS) && !member.is_classic() {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match from.epoch.cmp(&member.epoch) {
            std::cmp::Ordering::Equal => Ok(MayCommit::All),
            std::cmp::Ordering::Greater => Err(stale(member)),
            std::cmp::Ordering::Less => Ok(MayCommit::Older { member, epoch: from.epoch }),
        }
    }

    /// Whether offsets may be asked for by whom it says; nobody in particular may.
    pub(in crate::coordinator::groups) fn check_fetch(
        &self,
        member: Option<&str>,
        epoch: i32,
    ) -> Result<(), ErrorCode> {
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(stale(member)) }
    }
}
