//! A frame being written: a list of byte slices, so that records go to the socket without a copy.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

/// Slices up to this size are copied: that is cheaper than one more entry in a vectored write.
const COPY_MAX: usize = 512;
/// The length that precedes a frame.
const LENGTH_BYTES: usize = 4;

/// Bytes so far. The first piece is kept writable, for the length in front.
pub(crate) struct Rope {
    first: Option<BytesMut>,
    rest: Vec<Bytes>,
    tail: BytesMut,
    version: i16,
}

impl Rope {
    /// An empty frame of a message in version `version`.
    pub(crate) fn new(version: i16) -> Self {
        let mut tail = BytesMut::with_capacity(256);
        tail.extend_from_slice(&[0; LENGTH_BYTES]);
        Self { first: None, rest: Vec::new(), tail, version }
    }

    /// The version that the message is encoded in.
    pub(crate) fn version(&self) -> i16 {
        self.version
    }

    /// Where small things are written to.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a message or structure of `kafka-protocol`.
    pub(crate) fn put(&mut self, message: &impl Encodable) -> Result<(), String> {
        message.encode(&mut self.tail, self.version).map_err(|error| error.to_string())
    }

    /// Appends bytes, without a copy unless they are few.
    pub(crate) fn splice(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_MAX {
            self.tail.extend_from_slice(&bytes);
            return;
        }
        self.cut();
        self.rest.push(bytes);
    }

    fn cut(&mut self) {
        let piece = self.tail.split();
        if self.first.is_none() {
            self.first = Some(piece);
        } else if !piece.is_empty() {
            self.rest.push(piece.freeze());
        }
    }

    /// The pieces of the whole frame, its length in front. None if it is longer than a length can say.
    pub(crate) fn finish(mut self) -> Option<Vec<Bytes>> {
        self.cut();
        let mut first = self.first?;
        let after: usize = self.rest.iter().map(Bytes::len).sum();
        let length = i32::try_from(first.len() - LENGTH_BYTES + after).ok()?;
        first[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        let mut pieces = vec![first.freeze()];
        pieces.append(&mut self.rest);
        Some(pieces)
    }
}
