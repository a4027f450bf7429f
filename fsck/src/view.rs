//! Everything that the metadata say of logs and objects, as of one moment (or, where a store has no such thing, about one).

use std::collections::{BTreeMap, BTreeSet};
use thalweg_metadata::{
    IncarnationRecord, IncarnationState, LogSegmentRecord, Metadata, MetadataError, OwnerRecord,
    SharedRecord, TopicRecord,
};
use thalweg_segment::{Incarnation, LogId, Offset};

/// The rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub shared: Vec<SharedRecord>,
    pub logs: Vec<LogSegmentRecord>,
    pub topics: Vec<TopicRecord>,
    pub log_starts: BTreeMap<LogId, Offset>,
    pub incarnations: BTreeMap<Incarnation, IncarnationRecord>,
    pub owner: Option<OwnerRecord>,
}

impl View {
    pub async fn read(metadata: &Metadata) -> Result<Self, MetadataError> {
        let records = metadata.incarnations().await?;
        Ok(Self {
            shared: metadata.shared_records().await?,
            logs: metadata.log_segment_records().await?,
            topics: metadata.topics().await?,
            log_starts: metadata.log_starts().await?,
            incarnations: records.into_iter().map(|record| (record.incarnation, record)).collect(),
            owner: metadata.owner().await?,
        })
    }

    /// The topic and partition of each log that has one.
    pub fn names(&self) -> BTreeMap<LogId, (&str, u32)> {
        let mut names = BTreeMap::new();
        for topic in &self.topics {
            names.extend(
                topic.log_ids().zip(0..).map(|(log, partition)| (log, (topic.name.as_str(), partition))),
            );
        }
        names
    }

    /// Logs of topics that are not compacted by key, and never were as far as is known: nothing in them may be missing.
    pub fn plain_logs(&self) -> BTreeSet<LogId> {
        self.topics.iter().filter(|topic| !is_compacted(topic)).flat_map(TopicRecord::log_ids).collect()
    }

    /// The record of an incarnation that may still write or commit.
    pub fn unrecovered(&self, incarnation: Incarnation) -> Option<&IncarnationRecord> {
        self.incarnations.get(&incarnation).filter(|record| record.state != IncarnationState::Recovered)
    }
}

/// Whether a topic is compacted by key.
pub(crate) fn is_compacted(topic: &TopicRecord) -> bool {
    topic.configs.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
}
