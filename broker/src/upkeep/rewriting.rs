//! Commits what replaces or removes objects of the index, and has the replaced ones deleted once nobody reads them any more.

use crate::{
    broker::Broker,
    mutation::{Mutation, mutated},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use thalweg_metadata::{IndexError, ObjectRecord};
use thalweg_segment::{Incarnation, LogId, WalSequence, segment_path, wal_path};
use thalweg_wal::{Rewrite, RewriteError};

/// WAL objects, by whose they are.
type WalObjects = BTreeMap<Incarnation, BTreeSet<WalSequence>>;

impl Broker {
    /// Commits `rewrite`. What it removes is deleted after the topic's `file.delete.delay.ms`, and so are the WAL objects that
    /// only removed manifests referred to. `Stale` also where a log would lose its end or state.
    pub async fn rewrite(&self, rewrite: Rewrite) -> Result<(), RewriteError> {
        let Rewrite { commit, shared, .. } = &rewrite;
        // What two of them remove could each be kept by the other.
        let _one_at_a_time = self.rewriting.lock().await;
        if !self.topics.index().keeps_ends(commit, shared.as_deref()) {
            return Err(RewriteError::Stale);
        }
        let removed = commit.removed.clone();
        // What can't be read now is left to the garbage collection.
        let adopted = self.adopted_by(&removed).await.unwrap_or_default();
        self.wal.rewrite(rewrite).await?;
        let delays = Delays::of(self);
        for record in removed {
            self.deletion.after(delays.of_object(&record), [segment_path(record.id())]);
        }
        if let Err(error) = self.delete_freed(adopted, delays.usual).await {
            tracing::debug!(%error, "WAL objects are left to the garbage collection");
        }
        Ok(())
    }

    /// The WAL objects that the manifests among `records` refer to.
    async fn adopted_by(&self, records: &[ObjectRecord]) -> Result<WalObjects, IndexError> {
        let mut adopted = WalObjects::new();
        for record in records {
            let ObjectRecord::Shared(manifest) = record else { continue };
            let Some(incarnation) = manifest.adopts else { continue };
            let index = self.topics.index().block_index(record).await?;
            let sequences = index.blocks.iter().map(|block| WalSequence(block.object));
            adopted.entry(incarnation).or_default().extend(sequences);
        }
        Ok(adopted)
    }

    /// Has those of `adopted` deleted that no other manifest refers to.
    async fn delete_freed(&self, adopted: WalObjects, delay: Duration) -> Result<(), IndexError> {
        for (incarnation, mut sequences) in adopted {
            if incarnation == self.topics.owner().incarnation {
                // Before the manifests are looked at: what the trim point has passed is in all that refer to it.
                let trim = self.wal.trim_point();
                sequences.retain(|sequence| *sequence < trim);
            }
            let needed = self.topics.index().adopted(incarnation).await?;
            let freed = sequences.difference(&needed).map(|sequence| wal_path(incarnation, *sequence));
            self.deletion.after(delay, freed);
        }
        Ok(())
    }
}

/// How long an object stays after it was removed from the index.
struct Delays {
    usual: Duration,
    /// Of logs whose topic has another.
    own: BTreeMap<LogId, Duration>,
}

impl Delays {
    fn of(broker: &Broker) -> Self {
        let usual = broker.dynamic().topic.delete_delay;
        let mut own = BTreeMap::new();
        for topic in broker.topics.all().iter().filter(|topic| topic.settings.delete_delay != usual) {
            own.extend(topic.logs.iter().map(|log| (log.id(), topic.settings.delete_delay)));
        }
        Self { usual, own }
    }

    fn of_object(&self, record: &ObjectRecord) -> Duration {
        if mutated(Mutation::DeleteBeforeDelay) {
            return Duration::ZERO;
        }
        match record {
            ObjectRecord::Log(segment) => self.own.get(&segment.log).copied().unwrap_or(self.usual),
            ObjectRecord::Shared(_) => self.usual,
        }
    }
}
