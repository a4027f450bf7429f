//! What lies in the bucket, held against the object index: while the run goes on, and by fsck in the end.
//!
//! 1. An object that the index refers to is not deleted, nor before `file.delete.delay.ms` have passed since it no longer does:
//!    who looked it up before may still read it.
//! 2. In the end every object that is referred to is there, each block and state is what was written, and no log has a gap.

use crate::{node::Node, object_store::SimStore, world::World};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::{memory::InMemory, path::Path};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use thalweg_fsck::{OpenMetadata, Options, Severity};
use thalweg_metadata::{MemoryKv, Metadata, MetadataError, ObjectRecord, Write};
use thalweg_runtime::Runtime;
use thalweg_segment::{Patience, Store, segment_path};
use tokio::time::Instant;

/// `file.delete.delay.ms` of every broker: less than a slow read takes.
pub const DELETE_DELAY: Duration = Duration::from_secs(5);

/// Since fsck meets no faults, it needs none.
const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(60),
    total: Duration::from_secs(60),
    backoff: Duration::from_secs(1),
    max_backoff: Duration::from_secs(1),
};

/// The objects that the index refers to, or has referred to. Cheap to clone.
#[derive(Clone)]
pub struct Referred {
    world: World,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Those that it refers to no longer, with the time when that ended.
    objects: BTreeMap<Path, Option<Instant>>,
    replaced: usize,
}

impl Referred {
    /// None yet.
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), state: Arc::default() }
    }

    /// `writes` were applied to the metadata, and have `replaced` these rows.
    pub fn follow(&self, replaced: &[(Bytes, Bytes)], writes: &[Write]) {
        let mut state = self.state.lock();
        for record in replaced.iter().filter_map(|(key, value)| ObjectRecord::of_row(key, value)) {
            state.objects.insert(segment_path(record.id()), Some(Instant::now()));
            state.replaced += 1;
        }
        for write in writes {
            let Write::Put(key, value) = write else { continue };
            let Some(record) = ObjectRecord::of_row(key, value) else { continue };
            state.objects.insert(segment_path(record.id()), None);
        }
    }

    /// `client` deletes an object.
    pub fn deletes(&self, client: &str, path: &Path) {
        let removed = self.state.lock().objects.get(path).copied();
        let tell = |what: &str| self.world.violation(format_args!("{client} deletes {path}, {what}"));
        match removed {
            None => {}
            Some(None) => tell("which the index refers to"),
            Some(Some(at)) if at.elapsed() < DELETE_DELAY => tell("which may still be read"),
            Some(Some(_)) => {}
        }
    }

    /// How many objects were replaced or removed.
    pub fn replaced(&self) -> usize {
        self.state.lock().replaced
    }
}

struct Readable<'a>(&'a MemoryKv, Runtime);

#[async_trait]
impl OpenMetadata for Readable<'_> {
    async fn open(&self) -> Result<Metadata, MetadataError> {
        Ok(Metadata::new(self.0.open_to_read(), self.1.clone()))
    }
}

/// Checks everything that is stored, by fsck, beside the brokers that run. No store may fail meanwhile.
pub async fn check(world: &World, bucket: &Arc<InMemory>, kv: &MemoryKv, cluster: &str) {
    let runtime = Node::new(world, "fsck".to_owned()).runtime(0);
    let objects = SimStore::new(world, bucket, &Referred::new(world), "fsck");
    let store = Store::new(Arc::new(objects), runtime.clone(), PATIENCE);
    // Objects have the times of the machine that the run runs on.
    let options = Options { deep: true, orphan_age: Duration::from_secs(3600) };
    let metadata = Readable(kv, runtime.clone());
    let report = match thalweg_fsck::check(&runtime, &store, &metadata, cluster, options).await {
        Ok(report) => report,
        Err(error) => return world.violation(format_args!("fsck fails: {error}")),
    };
    world.event(format_args!("fsck has read {} blocks", report.totals.blocks_read));
    for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Problem) {
        world.violation(format_args!("fsck: {finding}"));
    }
}
