//! The Fetch response, versions 4 to 18. Encoded here, as `kafka-protocol` would copy the records, and wants those of a
//! partition in one piece.

use crate::rope::Rope;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_response as wire;
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

pub use wire::{AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, NodeEndpoint};

/// First version with fetch sessions.
const SESSIONS: i16 = 7;
/// First version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// First version that says where the current leaders are (KIP-951).
const NODE_ENDPOINTS: i16 = 16;

/// Answer to a Fetch request. Fields that a version lacks are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// How long the client was throttled, in milliseconds.
    pub throttle_time_ms: i32,
    /// Error of the whole request, from version 7.
    pub error_code: i16,
    /// The fetch session, or 0, from version 7.
    pub session_id: i32,
    /// One entry per topic.
    pub topics: Vec<FetchTopic>,
    /// Where the leaders that partitions point to are, from version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// The partitions of one topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchTopic {
    /// The name, up to version 12.
    pub name: TopicName,
    /// The id, from version 13.
    pub topic_id: Uuid,
    /// One entry per partition.
    pub partitions: Vec<FetchedPartition>,
}

/// What was fetched of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedPartition {
    /// The partition.
    pub partition_index: i32,
    /// Its error, or 0.
    pub error_code: i16,
    /// End of what is durable; -1 with an error.
    pub high_watermark: i64,
    /// End of what no open transaction covers; -1 if unknown.
    pub last_stable_offset: i64,
    /// First offset of the log, from version 5; -1 if unknown.
    pub log_start_offset: i64,
    /// Where the client's log and this one part, from version 12.
    pub diverging_epoch: Option<EpochEndOffset>,
    /// The leader to ask instead, from version 12.
    pub current_leader: Option<LeaderIdAndEpoch>,
    /// Aborted transactions that overlap the records; none when reading uncommitted.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The broker to read from instead, from version 11; -1 for this one.
    pub preferred_read_replica: i32,
    /// Whole batches, in any number of pieces. They go to the socket as they are.
    pub records: Vec<Bytes>,
}

impl Default for FetchedPartition {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

impl FetchResponse {
    pub(crate) fn encode(self, out: &mut Rope) -> Result<(), String> {
        let version = out.version();
        out.tail().put_i32(self.throttle_time_ms);
        if version >= SESSIONS {
            out.tail().put_i16(self.error_code);
            out.tail().put_i32(self.session_id);
        }
        put_length(out, self.topics.len())?;
        self.topics.into_iter().try_for_each(|topic| topic.encode(out))?;
        let endpoints =
            (version >= NODE_ENDPOINTS && !self.node_endpoints.is_empty()).then_some(self.node_endpoints);
        put_tags(out, [(0, endpoints.map(|all| endpoints_tag(&all, version)).transpose()?)])
    }
}

impl FetchTopic {
    fn encode(self, out: &mut Rope) -> Result<(), String> {
        match out.version() >= TOPIC_IDS {
            true => out.tail().put_slice(self.topic_id.as_bytes()),
            false => put_string(out, &self.name.0)?,
        }
        put_length(out, self.partitions.len())?;
        self.partitions.into_iter().try_for_each(|partition| partition.encode(out))?;
        put_tags(out, [])
    }
}

impl FetchedPartition {
    fn encode(self, out: &mut Rope) -> Result<(), String> {
        let version = out.version();
        out.tail().put_i32(self.partition_index);
        out.tail().put_i16(self.error_code);
        out.tail().put_i64(self.high_watermark);
        out.tail().put_i64(self.last_stable_offset);
        if version >= 5 {
            out.tail().put_i64(self.log_start_offset);
        }
        put_aborted(out, self.aborted_transactions.as_deref())?;
        if version >= 11 {
            out.tail().put_i32(self.preferred_read_replica);
        }
        put_length(out, self.records.iter().map(Bytes::len).sum())?;
        self.records.into_iter().for_each(|piece| out.splice(piece));
        let diverging = self.diverging_epoch.as_ref().map(|epoch| encoded(epoch, version)).transpose()?;
        let leader = self.current_leader.as_ref().map(|leader| encoded(leader, version)).transpose()?;
        put_tags(out, [(0, diverging), (1, leader)])
    }
}

fn put_aborted(out: &mut Rope, aborted: Option<&[AbortedTransaction]>) -> Result<(), String> {
    let Some(aborted) = aborted else {
        match out.version() >= FLEXIBLE {
            true => out.tail().put_u8(0),
            false => out.tail().put_i32(-1),
        }
        return Ok(());
    };
    put_length(out, aborted.len())?;
    aborted.iter().try_for_each(|transaction| out.put(transaction))
}

/// The length of an array or of records.
fn put_length(out: &mut Rope, length: usize) -> Result<(), String> {
    let length = i32::try_from(length).map_err(|_| format!("a length of {length}"))?;
    match out.version() >= FLEXIBLE {
        true => put_uvarint(out.tail(), length.unsigned_abs() + 1),
        false => out.tail().put_i32(length),
    }
    Ok(())
}

fn put_string(out: &mut Rope, text: &StrBytes) -> Result<(), String> {
    let length = i16::try_from(text.len()).map_err(|_| format!("a string of {} bytes", text.len()))?;
    match out.version() >= FLEXIBLE {
        true => put_uvarint(out.tail(), u32::from(length.unsigned_abs()) + 1),
        false => out.tail().put_i16(length),
    }
    out.tail().put_slice(text.as_bytes());
    Ok(())
}

/// Those of the tagged fields that are there, in the order of their tags; nothing where the version has no tags.
fn put_tags<const N: usize>(out: &mut Rope, tags: [(u32, Option<BytesMut>); N]) -> Result<(), String> {
    if out.version() < FLEXIBLE {
        return Ok(());
    }
    let present = tags.iter().filter(|(_, value)| value.is_some()).count();
    put_uvarint(out.tail(), u32::try_from(present).expect("a handful of tags"));
    for (tag, value) in tags {
        let Some(value) = value else { continue };
        put_uvarint(out.tail(), tag);
        put_uvarint(out.tail(), u32::try_from(value.len()).map_err(|error| error.to_string())?);
        out.tail().put_slice(&value);
    }
    Ok(())
}

fn endpoints_tag(endpoints: &[NodeEndpoint], version: i16) -> Result<BytesMut, String> {
    let mut value = BytesMut::new();
    put_uvarint(&mut value, u32::try_from(endpoints.len()).expect("as many as brokers") + 1);
    for endpoint in endpoints {
        endpoint.encode(&mut value, version).map_err(|error| error.to_string())?;
    }
    Ok(value)
}

/// A structure as the value of a tagged field.
fn encoded(structure: &impl Encodable, version: i16) -> Result<BytesMut, String> {
    let mut value = BytesMut::new();
    // Before tagged fields there is no form of it, and put_tags leaves it out.
    if version >= FLEXIBLE {
        structure.encode(&mut value, version).map_err(|error| error.to_string())?;
    }
    Ok(value)
}

fn put_uvarint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// As a client reads it.
impl From<wire::FetchResponse> for FetchResponse {
    fn from(response: wire::FetchResponse) -> Self {
        Self {
            throttle_time_ms: response.throttle_time_ms,
            error_code: response.error_code,
            session_id: response.session_id,
            topics: response.responses.into_iter().map(FetchTopic::from).collect(),
            node_endpoints: response.node_endpoints,
        }
    }
}

impl From<wire::FetchableTopicResponse> for FetchTopic {
    fn from(topic: wire::FetchableTopicResponse) -> Self {
        let partitions = topic.partitions.into_iter().map(FetchedPartition::from).collect();
        Self { name: topic.topic, topic_id: topic.topic_id, partitions }
    }
}

impl From<wire::PartitionData> for FetchedPartition {
    fn from(data: wire::PartitionData) -> Self {
        Self {
            partition_index: data.partition_index,
            error_code: data.error_code,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start_offset: data.log_start_offset,
            diverging_epoch: Some(data.diverging_epoch).filter(|epoch| *epoch != EpochEndOffset::default()),
            current_leader: Some(data.current_leader).filter(|leader| *leader != LeaderIdAndEpoch::default()),
            aborted_transactions: data.aborted_transactions,
            preferred_read_replica: data.preferred_read_replica.0,
            records: data.records.filter(|records| !records.is_empty()).into_iter().collect(),
        }
    }
}
