//! Kafka's wire protocol: requests out of frames, responses into frames, and the records inside of batches.
//!
//! This crate alone names `kafka-protocol`, whose message types it hands on as [`messages`]. It adds what that lacks:
//! bounds on what hostile bytes can cost (`schema`), responses whose records aren't copied ([`messages::FetchResponse`]),
//! and the versions of Kafka 4.3.1.
//!
//! A server reads the four bytes of a frame's length, then [`peek_api`] on the first bytes of the frame tells how long it
//! may be ([`max_frame_bytes`]). When all of it is there: [`decode_header`], [`RequestHeader::check`], whose result tells
//! how much memory to charge and then decodes, and at last [`encode_response`].
//!
//! ```
//! use thalweg_protocol::{ApiKey, Request, RequestHeader, Response, messages::*};
//!
//! // The client's side.
//! let header = RequestHeader { api_key: ApiKey::Metadata, api_version: 12, correlation_id: 7, client_id: "me".into() };
//! let frame = thalweg_protocol::client::encode_request(&header, MetadataRequest::default().into())?;
//!
//! // The server's side.
//! let (header, request) = thalweg_protocol::decode_request(frame.slice(4..))?;
//! assert!(matches!(request, Request::Metadata(_)));
//! let response = thalweg_protocol::encode_response(&header, MetadataResponse::default().into())?;
//!
//! let frame: bytes::Bytes = response.concat().into();
//! let (id, response) = thalweg_protocol::client::decode_response(ApiKey::Metadata, 12, frame.slice(4..))?;
//! assert!(id == 7 && matches!(response, Response::Metadata(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apis;
mod errors;
mod frame;

mod codec;
mod fetch_response;
mod generated;
#[expect(
    clippy::derivable_impls,
    clippy::field_reassign_with_default,
    reason = "the generator writes one form for all messages"
)]
mod generated_messages;
mod rope;
mod schema;

#[cfg(test)]
mod hostile_tests;

pub mod client;
mod compression;
mod consumer_protocol;
pub mod coordinator_records;
mod packing;
mod record_heads;
mod record_keys;
mod records;
mod snappy;
mod topics;
mod unpacking;
mod validate;
mod zstd_frames;

/// The messages of Kafka's protocol, and their parts.
pub mod messages {
    // What is named here goes before what the glob brings.
    pub use crate::apis::ApiKey;
    pub use crate::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchResponse, FetchTopic, FetchedPartition, LeaderIdAndEpoch,
        NodeEndpoint,
    };
    pub use crate::frame::RequestHeader;
    pub use crate::generated_messages::{
        AddRaftVoterRequest, AddRaftVoterResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
        OffsetCommitRequest, OffsetFetchRequest, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
        add_raft_voter_request, add_raft_voter_response, describe_log_dirs_request,
        describe_log_dirs_response, offset_commit_request, offset_fetch_request, write_txn_markers_request,
        write_txn_markers_response,
    };
    pub use kafka_protocol::messages::*;
    pub use kafka_protocol::protocol::StrBytes;
}

pub use apis::{ApiKey, FEATURES, Feature, api_versions_response};
pub use codec::{Malformed, TooLong};
pub use compression::{Compression, CompressionError, compress, decompress};
pub use consumer_protocol::{
    CONSUMER_PROTOCOL, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    consumer_protocol_assignment, consumer_protocol_subscription, decode_assignment, decode_subscription,
    encode_assignment, subscribed_topics,
};
pub use errors::{DecodeError, EncodeError, ErrorCode};
pub use frame::{
    CheckedBody, MAX_SMALL_FRAME, Request, RequestHeader, Response, decode_header, decode_request,
    encode_response, is_surely_larger, max_frame_bytes, peek_api,
};
pub use packing::Packing;
pub use record_heads::{RecordHead, RecordHeads, UnpackError, renumber, repack};
pub use record_keys::{KeyedRecord, keep_records, read_keys};
pub use records::{Headers, Record, RecordError, Records, put_record};
pub use topics::{MAX_TOPIC_NAME, TopicNameError, topic_names_collide, validate_topic_name};
pub use unpacking::Unpacking;
pub use validate::{
    BatchFacts, BrokenRule, RecordsFacts, Rejection, Rules, ValidationError, validate_batch, validate_records,
};
