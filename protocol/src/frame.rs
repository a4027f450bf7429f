//! Requests out of frames, and responses into frames.
//!
//! A frame is four bytes of length, a header and a body. Of the functions here, those that read take the frame without
//! its length, those that write give it with its length.

use crate::apis::{ApiKey, for_each_api};
use crate::codec::Message;
use crate::errors::{DecodeError, EncodeError};
use crate::messages;
use crate::rope::Rope;
use bytes::{Buf, BufMut, Bytes};
use kafka_protocol::protocol::{Decodable, Encodable};

/// Cap on frames of all APIs but Produce, unless configured otherwise. The largest that make sense (a fetch of some
/// 100,000 partitions, the topics of a big cluster) take 4 MiB.
pub const MAX_SMALL_FRAME: usize = 8 << 20;

/// What precedes every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// Version of the request. Only of ApiVersions it may be one that isn't served.
    pub api_version: i16,
    /// The client's number of the request; the response bears it.
    pub correlation_id: i32,
    /// How the client calls itself; empty if it doesn't.
    pub client_id: String,
}

/// API key and version: the first four bytes of a request.
pub fn peek_api(frame: &[u8]) -> Option<(i16, i16)> {
    let mut bytes = frame.get(..4)?;
    Some((bytes.get_i16(), bytes.get_i16()))
}

/// The largest frame to accept of an API: `produce_max` (`socket.request.max.bytes`) for Produce, which is nearly all
/// records, and `small_max` for all others, whose bytes are multiplied when decoded.
pub fn max_frame_bytes(api: ApiKey, produce_max: usize, small_max: usize) -> usize {
    if api == ApiKey::Produce { produce_max } else { produce_max.min(small_max) }
}

/// Reads the header at the front of a frame, of which less than the whole may be there, and gives the position of the
/// body. [`DecodeError::HeaderTruncated`] if the header isn't all there.
pub fn decode_header(frame: &[u8]) -> Result<(RequestHeader, usize), DecodeError> {
    let (key, version) = peek_api(frame).ok_or(DecodeError::HeaderTruncated)?;
    let api = ApiKey::from_key(key).ok_or(DecodeError::UnknownApi(key))?;
    if api != ApiKey::ApiVersions && !api.serves(version) {
        return Err(DecodeError::UnsupportedVersion { api: api.name(), version });
    }
    let mut rest = &frame[4..];
    let correlation_id = rest.try_get_i32().map_err(|_| DecodeError::HeaderTruncated)?;
    let client_id = client_id(&mut rest, key)?;
    if api.request_header_version(version) >= 2 {
        skip_tags(&mut rest, key)?;
    }
    let header = RequestHeader { api_key: api, api_version: version, correlation_id, client_id };
    Ok((header, frame.len() - rest.len()))
}

/// The client id has two bytes of length in all versions; null counts as empty.
fn client_id(rest: &mut &[u8], api_key: i16) -> Result<String, DecodeError> {
    let length = rest.try_get_i16().map_err(|_| DecodeError::HeaderTruncated)?;
    if length == -1 {
        return Ok(String::new());
    }
    let length = usize::try_from(length).map_err(|_| DecodeError::BadHeader { api_key })?;
    let bytes = take(rest, length)?;
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::BadHeader { api_key })?;
    Ok(text.to_owned())
}

/// No tagged field of the request header is defined.
fn skip_tags(rest: &mut &[u8], api_key: i16) -> Result<(), DecodeError> {
    for _ in 0..uvarint(rest, api_key)? {
        uvarint(rest, api_key)?;
        let size = uvarint(rest, api_key)?;
        take(rest, size as usize)?;
    }
    Ok(())
}

fn uvarint(rest: &mut &[u8], api_key: i16) -> Result<u32, DecodeError> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).map_err(|_| DecodeError::BadHeader { api_key });
        }
    }
    Err(DecodeError::BadHeader { api_key })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, after) = rest.split_at_checked(count).ok_or(DecodeError::HeaderTruncated)?;
    *rest = after;
    Ok(taken)
}

impl RequestHeader {
    /// Whether the version is one that is served. Only an ApiVersions request is answered if not.
    pub fn is_served(&self) -> bool {
        self.api_key.serves(self.api_version)
    }

    /// Checks every length of `body` by a walk over it that allocates nothing, and that ends as soon as decoding would take more
    /// than `most` bytes of memory beyond the body itself ([`DecodeError::TooLarge`]).
    pub fn check(&self, body: Bytes, most: usize) -> Result<CheckedBody, DecodeError> {
        let (api_key, version) = (self.api_key, self.api_version);
        let memory = match self.is_served() {
            true => api_key.schema().measure(version, &body, 0, most)?,
            false => 0,
        };
        Ok(CheckedBody { api_key, version, memory, body })
    }
}

/// The body of a request of which every length is known to be right.
#[derive(Debug)]
pub struct CheckedBody {
    api_key: ApiKey,
    version: i16,
    memory: usize,
    body: Bytes,
}

impl CheckedBody {
    /// Bytes of memory that decoding it takes at most, beyond the body itself. To be charged to a budget before.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Decodes it. Strings and records are slices of the body, not copies: what is kept for longer than the request must be
    /// copied, or it keeps the whole frame in memory. An ApiVersions request of a version to come isn't read at all
    /// (KIP-511). Bytes behind the body are ignored, as by Kafka.
    pub fn decode(mut self) -> Result<Request, DecodeError> {
        if !self.api_key.serves(self.version) {
            return Ok(Request::ApiVersions(messages::ApiVersionsRequest::default()));
        }
        Request::decode(self.api_key, self.version, &mut self.body)
    }
}

/// Whether the first bytes of a frame, behind which `missing` more will come, already tell that decoding it will take more than
/// `most` bytes of memory.
pub fn is_surely_larger(begun: &[u8], missing: usize, most: usize) -> bool {
    let Ok((header, body)) = decode_header(begun) else { return false };
    let measured = match header.is_served() {
        true => header.api_key.schema().measure(header.api_version, &begun[body..], missing, most),
        false => return false,
    };
    matches!(measured, Err(DecodeError::TooLarge { .. }))
}

/// Decodes a whole frame, whatever memory it takes.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), DecodeError> {
    let (header, body) = decode_header(&frame)?;
    let request = header.check(frame.slice(body..), usize::MAX)?.decode()?;
    Ok((header, request))
}

/// Encodes the response to the request of `header`, as slices to be written one after the other. Records of a Fetch
/// response are not copied.
pub fn encode_response(header: &RequestHeader, response: Response) -> Result<Vec<Bytes>, EncodeError> {
    let api = header.api_key;
    assert_eq!(api, response.api_key(), "a response is of the API of its request");
    // Who asked for a version of ApiVersions that isn't served understands version 0.
    let version = if header.is_served() { header.api_version } else { 0 };
    let error = |reason| EncodeError { api: api.name(), version, reason };
    let mut rope = Rope::new(api.layout(version));
    rope.tail().put_i32(header.correlation_id);
    if api.response_header_version(version) >= 1 {
        rope.tail().put_u8(0);
    }
    response.encode(&mut rope).map_err(error)?;
    rope.finish().ok_or_else(|| error("longer than a frame can be".into()))
}

/// A message that a frame can hold.
pub(crate) trait Body: Sized {
    fn encode(self, out: &mut Rope) -> Result<(), String>;
    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, String>;
}

impl<T: Encodable + Decodable> Body for T {
    fn encode(self, out: &mut Rope) -> Result<(), String> {
        out.put(&self)
    }

    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, String> {
        T::decode(bytes, version).map_err(|error| error.to_string())
    }
}

impl Body for messages::FetchResponse {
    fn encode(self, out: &mut Rope) -> Result<(), String> {
        Self::encode(self, out)
    }

    fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, String> {
        <kafka_protocol::messages::FetchResponse as Body>::decode(bytes, version).map(Self::from)
    }
}

macro_rules! generated_bodies {
    ($($name:ident,)*) => {$(
        impl Body for messages::$name {
            fn encode(self, out: &mut Rope) -> Result<(), String> {
                let version = out.version();
                Message::encode(&self, out.tail(), version).map_err(|error| error.to_string())
            }

            fn decode(bytes: &mut Bytes, version: i16) -> Result<Self, String> {
                Message::decode(bytes, version).map_err(|error| error.to_string())
            }
        }
    )*};
}

generated_bodies! {
    OffsetCommitRequest,
    OffsetFetchRequest,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    AddRaftVoterRequest,
    AddRaftVoterResponse,
}

macro_rules! bodies {
    ($(#[$doc:meta])* $bodies:ident { $($name:ident($body:ident),)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "one variant per API")]
        pub enum $bodies {
            $($name(messages::$body),)*
        }

        impl $bodies {
            /// The API that it belongs to.
            pub fn api_key(&self) -> ApiKey {
                match self {
                    $(Self::$name(_) => ApiKey::$name,)*
                }
            }

            pub(crate) fn encode(self, out: &mut Rope) -> Result<(), String> {
                match self {
                    $(Self::$name(body) => Body::encode(body, out),)*
                }
            }

            pub(crate) fn decode(api: ApiKey, version: i16, bytes: &mut Bytes) -> Result<Self, DecodeError> {
                let version = api.layout(version);
                let decoded = match api {
                    $(ApiKey::$name => Body::decode(bytes, version).map(Self::$name),)*
                };
                decoded.map_err(|reason| DecodeError::Invalid { api: api.name(), reason })
            }
        }

        $(impl From<messages::$body> for $bodies {
            fn from(body: messages::$body) -> Self {
                Self::$name(body)
            }
        })*
    };
}

macro_rules! requests_and_responses {
    ($($name:ident = $key:literal: $request:ident, $response:ident;)*) => {
        bodies! {
            /// A request's body.
            Request { $($name($request),)* }
        }
        bodies! {
            /// A response's body.
            Response { $($name($response),)* }
        }
    };
}

for_each_api!(requests_and_responses);
