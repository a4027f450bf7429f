//! The hash of a group's topics (KIP-1101): when it changes, the target assignment must be worked out anew. It is Kafka's, XXH3 of
//! the same bytes, so that either reads what the other has stored without a rebalance.

use super::super::cluster::ClusterView;
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// What stands before each topic: the version of this layout.
const MAGIC: u8 = 0;

/// The hash of the topics that exist, in the order of their names; 0 where none does.
pub(super) fn metadata_hash<'a>(
    topics: impl Iterator<Item = &'a Arc<str>>,
    cluster: &dyn ClusterView,
) -> i64 {
    // The names' order in UTF-16 is that of their bytes: names of topics are ASCII.
    let all: Vec<u8> =
        topics.filter_map(|name| topic_hash(name, cluster)).flat_map(u64::to_le_bytes).collect();
    if all.is_empty() { 0 } else { XxHash3_64::oneshot(&all).cast_signed() }
}

fn topic_hash(name: &str, cluster: &dyn ClusterView) -> Option<u64> {
    let topic = cluster.topic(name)?;
    let (high, low) = topic.id.as_u64_pair();
    let mut bytes = vec![MAGIC];
    bytes.extend_from_slice(&high.to_le_bytes());
    bytes.extend_from_slice(&low.to_le_bytes());
    put_text(&mut bytes, name);
    bytes.extend_from_slice(&topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        bytes.extend_from_slice(&partition.to_le_bytes());
        if let Some(rack) = cluster.rack() {
            let length = rack.encode_utf16().count() as i32;
            bytes.extend_from_slice(&length.to_le_bytes());
            put_text(&mut bytes, rack);
        }
    }
    Some(XxHash3_64::oneshot(&bytes))
}

/// UTF-16 units, and how many.
fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let before = bytes.len();
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let units = (bytes.len() - before) / 2;
    bytes.extend_from_slice(&(units as i32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::groups::cluster::{GroupOverrides, TopicView};
    use uuid::Uuid;

    struct Two {
        rack: Option<&'static str>,
    }

    impl ClusterView for Two {
        fn version(&self) -> u64 {
            0
        }

        fn topic(&self, name: &str) -> Option<TopicView> {
            let topic = |high, low, partitions| TopicView { id: Uuid::from_u64_pair(high, low), partitions };
            match name {
                "a-topic" => Some(topic(0x0102_0304_0506_0708, 0x1112_1314_1516_1718, 3)),
                "b" => Some(topic(1, 2, 40)),
                _ => None,
            }
        }

        fn topic_name(&self, _: Uuid) -> Option<Arc<str>> {
            None
        }

        fn topic_names(&self) -> Vec<Arc<str>> {
            Vec::new()
        }

        fn rack(&self) -> Option<&str> {
            self.rack
        }

        fn group_overrides(&self, _: &str) -> GroupOverrides {
            GroupOverrides::default()
        }
    }

    /// As hash4j 0.22 says, by which Kafka 4.3.1 hashes.
    #[test]
    fn it_is_kafkas() {
        let hash = |names: &[&str], rack| {
            let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
            metadata_hash(names.iter(), &Two { rack })
        };
        assert_eq!(
            topic_hash("a-topic", &Two { rack: None }),
            Some((-8_469_932_926_690_780_335_i64).cast_unsigned())
        );
        assert_eq!(hash(&["a-topic", "missing"], None), 6_431_306_537_550_028_715);
        assert_eq!(hash(&["a-topic", "b"], Some("zone-ä")), -3_214_154_398_353_737_754);
        assert_eq!(hash(&["missing"], None), 0);
    }
}
