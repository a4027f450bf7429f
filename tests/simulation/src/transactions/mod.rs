//! Clients with transactions: consume → transform → produce, exactly once, whatever dies; and whether it was.
//!
//! The input is the numbers 0, 1, 2…, and the group's committed offset says how far it is. The effect of a number is one record in
//! a random partition of the output. A worker takes the next few numbers, writes their effects and the offset behind them in
//! one transaction, and commits or aborts it. So offset and effects show each other's faults: the [`ledger`] has the promises.
//!
//! Workers get in each other's way on purpose. Either all have one transactional id, and each that begins fences the others
//! ([`session`]); or they are members of a group and have ids of their own ([`member`]), and one of them owns the input in a
//! generation: who has lost it goes on for a while. Each session speaks the old protocol of transactions or the new one.

pub mod caller;
pub mod ledger;
pub mod member;
pub mod reader;
pub mod session;

use crate::{cluster::Cluster, world::World};
use caller::Caller;
use ledger::Ledger;
use session::Session;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use thalweg_protocol::messages::StrBytes;
use tokio::time::sleep;

/// Topic that the effects are written to.
pub const OUTPUT: &str = "output";
/// Its partitions.
pub const OUTPUT_PARTITIONS: i32 = 2;
/// Topic of the input, of which only the committed offset is used.
const INPUT: &str = "simulated";
const GROUP: &str = "workers";

/// What the clients of a run share. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    /// The world.
    pub world: World,
    /// Whom they talk to.
    pub cluster: Cluster,
    /// Where they write what they do and see.
    pub ledger: Ledger,
    /// Workers begin nothing new any more; readers end.
    pub stop: Arc<AtomicBool>,
    /// Workers that still do something.
    pub busy: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts workers, and readers of what they commit.
    pub fn start(&self) {
        let grouped = self.world.one_in(2);
        for number in 0..self.world.random().range(2..4) {
            self.busy.fetch_add(1, Ordering::Relaxed);
            let this = self.clone();
            self.world.spawn(async move {
                match grouped {
                    true => this.work_as_member(format!("worker-{number}")).await,
                    false => this.work_alone(number).await,
                }
                this.busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
        for partition in 0..OUTPUT_PARTITIONS {
            let this = self.clone();
            self.world.spawn(async move { this.read_committed(partition).await });
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One session after another under the id that all have.
    async fn work_alone(&self, number: u64) {
        while !self.stopped() {
            sleep(self.world.millis(0, 3000)).await;
            let mut caller = Caller::new(self);
            let name = format!("worker-{number}");
            if let Some(mut session) = Session::begin(self, &mut caller, &name, "shared", None).await {
                session.run(&mut caller, None).await;
            }
        }
    }
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}
