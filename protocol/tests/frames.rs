//! Frames as clients and brokers exchange them.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bytes::Bytes;
use thalweg_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use thalweg_protocol::messages::*;
use thalweg_protocol::{
    DecodeError, FEATURES, Request, Response, api_versions_response, client, decode_header, decode_request,
    encode_response, max_frame_bytes, peek_api,
};

fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 42, client_id: "client".into() }
}

#[test]
fn produced_records_are_a_slice_of_the_frame() {
    let records = Bytes::from(vec![1; 10_000]);
    let partition = PartitionProduceData::default().with_records(Some(records.clone()));
    let topic = TopicProduceData::default().with_partition_data(vec![partition]);
    for version in 3..=13 {
        let request = ProduceRequest::default().with_topic_data(vec![topic.clone()]);
        let header = header(ApiKey::Produce, version);
        let frame = client::encode_request(&header, request.into()).expect("encodes").slice(4..);
        let (read, request) = decode_request(frame.clone()).expect("decodes");
        assert_eq!(read, header);
        let Request::Produce(request) = request else { panic!("not a Produce request") };
        let read = request.topic_data[0].partition_data[0].records.as_ref().expect("records");
        assert_eq!(*read, records);
        assert!(frame.as_ptr_range().contains(&read.as_ptr()), "copied in version {version}");
    }
}

#[test]
fn a_header_is_read_from_a_prefix_of_the_frame() {
    let frame = client::encode_request(&header(ApiKey::Metadata, 12), MetadataRequest::default().into())
        .expect("encodes")
        .slice(4..);
    assert_eq!(peek_api(&frame[..3]), None);
    assert_eq!(peek_api(&frame[..4]), Some((3, 12)));
    let (_, body) = decode_header(&frame).expect("a header");
    for end in 0..body {
        assert_eq!(decode_header(&frame[..end]), Err(DecodeError::HeaderTruncated), "{end} bytes");
    }
    assert_eq!(decode_header(&frame[..body]), Ok((header(ApiKey::Metadata, 12), body)));
}

#[test]
fn a_null_client_id_counts_as_empty() {
    let (header, body) = decode_header(&[0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]).expect("a header");
    assert_eq!((header.client_id.as_str(), body), ("", 10));
}

#[test]
fn api_versions_of_a_version_to_come_is_answered_in_version_0() {
    // Flexible header, and a body that nobody here can read.
    let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 9, 0, 1, b'c', 0, 1, 2, 3, 4, 5]);
    let (header, request) = decode_request(frame).expect("is understood");
    assert!(!header.is_served());
    assert_eq!(request, Request::ApiVersions(ApiVersionsRequest::default()));

    let response = api_versions_response(header.api_version, FEATURES, 1);
    let frame: Bytes = encode_response(&header, response.into()).expect("encodes").concat().into();
    // Length, correlation id, error 35, one API: 18 from 0 to 4.
    assert_eq!(frame[..], [0, 0, 0, 16, 0, 0, 0, 9, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[test]
fn api_versions_always_has_the_old_response_header() {
    let header = header(ApiKey::ApiVersions, 4);
    let frame: Bytes = encode_response(&header, api_versions_response(4, FEATURES, 1).into())
        .expect("encodes")
        .concat()
        .into();
    // Error code and a compact array follow the correlation id at once.
    assert_eq!(frame[8..11], [0, 0, 1 + ApiKey::ALL.len() as u8]);
    let (id, response) = client::decode_response(ApiKey::ApiVersions, 4, frame.slice(4..)).expect("decodes");
    assert_eq!(id, 42);
    assert!(matches!(response, Response::ApiVersions(_)));
}

#[test]
fn what_is_not_served_is_refused_by_its_header() {
    assert_eq!(decode_header(&[0, 99, 0, 0]), Err(DecodeError::UnknownApi(99)));
    let unsupported = DecodeError::UnsupportedVersion { api: "Produce", version: 2 };
    assert_eq!(decode_header(&[0, 0, 0, 2]), Err(unsupported));
    let unstable = DecodeError::UnsupportedVersion { api: "InitProducerId", version: 6 };
    assert_eq!(decode_header(&[0, 22, 0, 6]), Err(unstable));
}

#[test]
fn list_offsets_11_has_the_layout_of_10() {
    let header = header(ApiKey::ListOffsets, 11);
    let request = ListOffsetsRequest::default().with_timeout_ms(5);
    let frame = client::encode_request(&header, request.clone().into()).expect("encodes");
    assert_eq!(decode_request(frame.slice(4..)), Ok((header.clone(), request.into())));
    let frame: Bytes =
        encode_response(&header, ListOffsetsResponse::default().into()).expect("encodes").concat().into();
    assert!(client::decode_response(ApiKey::ListOffsets, 11, frame.slice(4..)).is_ok());
}

#[test]
fn only_produce_may_be_large() {
    assert_eq!(max_frame_bytes(ApiKey::Produce, 100, 8), 100);
    assert_eq!(max_frame_bytes(ApiKey::Metadata, 100, 8), 8);
    assert_eq!(max_frame_bytes(ApiKey::Metadata, 4, 8), 4);
}
