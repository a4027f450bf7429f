//! The other end of the wire, for raw clients: end-to-end tests and load generators.

use crate::apis::ApiKey;
use crate::errors::{DecodeError, EncodeError};
use crate::frame::{Request, RequestHeader, Response};
use crate::rope::Rope;
use bytes::{Buf, BufMut, Bytes};

/// Encodes a request as a frame, its length in front. The version may be any that has the header's form; the body is
/// encoded in it.
pub fn encode_request(header: &RequestHeader, request: Request) -> Result<Bytes, EncodeError> {
    let (api, version) = (header.api_key, header.api_version);
    let error = |reason| EncodeError { api: api.name(), version, reason };
    let mut rope = Rope::new(api.layout(version));
    let out = rope.tail();
    out.put_i16(api.key());
    out.put_i16(version);
    out.put_i32(header.correlation_id);
    let length = i16::try_from(header.client_id.len()).map_err(|_| error("a client id too long".into()))?;
    out.put_i16(length);
    out.put_slice(header.client_id.as_bytes());
    if api.request_header_version(version) >= 2 {
        out.put_u8(0);
    }
    request.encode(&mut rope).map_err(error)?;
    let pieces = rope.finish().ok_or_else(|| error("longer than a frame can be".into()))?;
    Ok(pieces.concat().into())
}

/// Decodes a response's frame, without its length: the correlation id and the body. The server is trusted: lengths are
/// not checked before memory is reserved by them.
pub fn decode_response(api: ApiKey, version: i16, mut frame: Bytes) -> Result<(i32, Response), DecodeError> {
    let correlation_id = frame.try_get_i32().map_err(|_| DecodeError::HeaderTruncated)?;
    if api.response_header_version(version) >= 1 {
        // Kafka's brokers set no tagged fields in the header.
        frame.try_get_u8().map_err(|_| DecodeError::HeaderTruncated)?;
    }
    let response = Response::decode(api, version, &mut frame)?;
    Ok((correlation_id, response))
}
