//! Classic groups: members join, one of them (the leader) assigns, all of them sync. Rules as of Kafka 4.3.1.
//!
//! ```text
//!             join                all joined, or time out             leader's assignment stored
//!   Empty ──────────► Preparing ────────────────────────► Completing ────────────────────────────► Stable
//!     ▲                 │  ▲                                  │                                       │
//!     └─────────────────┘  └──────────────────────────────────┴───────────────────────────────────────┘
//!      no member is left      a member joins anew, leaves, or its session ends
//! ```
//! `join`, `sync`, `session` (Heartbeat, LeaveGroup, expiry) are the requests; `rebalance` has the way from one state to the
//! next; `group` and `member` are what they work on. `convert` is for groups that change their type.

mod convert;
mod group;
mod join;
mod member;
mod rebalance;
mod session;
mod sync;

pub use join::{Caller, check_lengths};
pub use member::Member;

pub(super) use group::{ClassicGroup, State};
pub(super) use member::{refused_join, refused_sync, text};

use super::{
    GroupSettings,
    effects::{Effects, Now},
    timers::{Alarm, Timer, Timers},
};
use std::sync::Arc;

/// One group, and all that its rules work on.
pub(super) struct Flow<'a> {
    pub(super) group: &'a mut ClassicGroup,
    pub(super) timers: &'a mut Timers,
    pub(super) settings: &'a GroupSettings,
    pub(super) now: Now,
    pub(super) effects: &'a mut Effects,
    /// What all groups weigh, and what this one did before.
    bytes: (&'a mut usize, usize),
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        group: &'a mut ClassicGroup,
        timers: &'a mut Timers,
        settings: &'a GroupSettings,
        all_bytes: &'a mut usize,
        now: Now,
        effects: &'a mut Effects,
    ) -> Self {
        let bytes = (all_bytes, group.bytes());
        Self { group, timers, settings, now, effects, bytes }
    }
}

/// The weight of the group is counted anew once its rules have done their work.
impl Drop for Flow<'_> {
    fn drop(&mut self) {
        *self.bytes.0 += self.group.bytes();
        *self.bytes.0 -= self.bytes.1;
    }
}

impl Flow<'_> {
    fn set_timer(&mut self, timer: Timer, after_ms: u64, alarm: Alarm) {
        self.timers.set(timer, self.now.monotonic_ms.saturating_add(after_ms), alarm);
    }

    fn join_timer(&self) -> Timer {
        Timer::Join(self.group.id.clone())
    }

    fn sync_timer(&self) -> Timer {
        Timer::Sync(self.group.id.clone())
    }

    fn session_timer(&self, member: &Arc<str>) -> Timer {
        Timer::Session(self.group.id.clone(), member.clone())
    }

    /// A member has shown that it lives: its session begins anew.
    pub(super) fn renew_session(&mut self, member: &str) {
        if let Some(member) = self.group.members.get(member) {
            let (id, timeout_ms) = (member.id.clone(), millis(member.session_timeout_ms));
            self.set_timer(self.session_timer(&id), timeout_ms, Alarm::SessionOver);
        }
    }
}

/// A time span as requests have it; negative ones count as none.
fn millis(value: i32) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
