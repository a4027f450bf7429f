//! The two ends of an object: a header that says what it is, a footer that says where everything lies.
//!
//! ```text
//! header:  0 magic u32 | 4 version u16 | 6 kind u8 | 7 zero u8
//! footer:  0 kind u8 | 1 zero 3 | 4 broker i32 | 8 broker epoch u64 | 16 number u64 | 24 states position u64 |
//!         32 index position u64 | 40 index size u32 | 44 index CRC u32 | 48 zero 6 | 54 version u16 |
//!         56 CRC of the 56 bytes before u32 | 60 magic u32
//! ```
//! Size, CRC, version and magic of the footer stay where they are in every later version, so that a newer object is told
//! from a damaged one.

use crate::{FormatError, Incarnation, Index, codec};
use bytes::BufMut;

/// Bytes of an object's header.
pub const OBJECT_HEADER_LEN: usize = 8;

const HEADER_MAGIC: u32 = u32::from_be_bytes(*b"Thlw");
const FOOTER_MAGIC: u32 = u32::from_be_bytes(*b"eg.\n");
const VERSION_AT: usize = 54;
const CRC_AT: usize = 56;
const MAGIC_AT: usize = 60;

/// What an object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WAL object: batches of many logs, not (yet) in the object index.
    Wal,
    /// A flushed segment with batches of many logs.
    Shared,
    /// A flushed segment with batches of one log.
    Log,
    /// Stands at a WAL sequence so that its writer can't.
    Fence,
    /// What a recovery kept of a WAL: an index whose blocks lie in WAL objects; no data of its own.
    Manifest,
    /// What a flush kept of its own WAL in place of writing it again: the same, with states of the logs.
    FlushManifest,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Wal => 1,
            Self::Shared => 2,
            Self::Log => 3,
            Self::Fence => 4,
            Self::Manifest => 5,
            Self::FlushManifest => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        use Kind::{Fence, FlushManifest, Log, Manifest, Shared, Wal};
        [Wal, Shared, Log, Fence, Manifest, FlushManifest].into_iter().find(|kind| kind.code() == code)
    }

    /// Whether its blocks lie in WAL objects.
    pub fn is_manifest(self) -> bool {
        matches!(self, Self::Manifest | Self::FlushManifest)
    }

    /// Whether its index has an entry for every batch, not only for every block.
    pub fn indexes_batches(self) -> bool {
        self != Self::Log
    }
}

/// The first bytes of an object of `kind`.
pub(crate) fn encode_header(kind: Kind) -> [u8; OBJECT_HEADER_LEN] {
    let mut header = [0; OBJECT_HEADER_LEN];
    let mut out = &mut header[..];
    out.put_u32(HEADER_MAGIC);
    out.put_u16(codec::VERSION);
    out.put_u8(kind.code());
    header
}

/// Checks the first bytes of an object whose footer says that it is of `kind`. No CRC is needed: only one header is right.
pub(crate) fn check_header(bytes: &[u8], kind: Kind) -> Result<(), FormatError> {
    if bytes.starts_with(&encode_header(kind)) {
        Ok(())
    } else {
        Err(FormatError::Malformed { what: "header" })
    }
}

/// The end of an object: who wrote it, where its index lies, checksums. Of fixed size, so that one suffix GET finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// What the object is for.
    pub kind: Kind,
    /// Who wrote it.
    pub writer: Incarnation,
    /// WAL sequence or segment number; for a fence, the sequence that it stands at.
    pub number: u64,
    /// Where the state blocks begin; they end where the index block begins.
    pub states_position: u64,
    /// Where the index block begins.
    pub index_position: u64,
    /// Its size in bytes.
    pub index_size: u32,
    /// CRC-32C of the index block. It holds the CRC of every other block, so it stands for the whole content.
    pub index_crc: u32,
}

impl Footer {
    /// Bytes of an encoded footer.
    pub const LEN: usize = 64;

    /// Whether it is the footer of the object of this kind, writer and number.
    pub fn check_name(&self, kind: Kind, writer: Incarnation, number: u64) -> Result<(), FormatError> {
        if (self.kind, self.writer, self.number) == (kind, writer, number) {
            return Ok(());
        }
        Err(FormatError::Malformed { what: "footer: another object's" })
    }

    /// The footer's bytes, its own CRC and magic included.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut footer = [0; Self::LEN];
        let mut out = &mut footer[..];
        out.put_u8(self.kind.code());
        out.put_bytes(0, 3);
        out.put_i32(self.writer.broker.0);
        out.put_u64(self.writer.epoch.0);
        out.put_u64(self.number);
        out.put_u64(self.states_position);
        out.put_u64(self.index_position);
        out.put_u32(self.index_size);
        out.put_u32(self.index_crc);
        out.put_bytes(0, 6);
        out.put_u16(codec::VERSION);
        let crc = crc32c::crc32c(&footer[..CRC_AT]);
        footer[CRC_AT..MAGIC_AT].copy_from_slice(&crc.to_be_bytes());
        footer[MAGIC_AT..].copy_from_slice(&FOOTER_MAGIC.to_be_bytes());
        footer
    }

    /// Reads a footer: the last [`Footer::LEN`] bytes of an object, all of them and no more.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const MALFORMED: FormatError = FormatError::Malformed { what: "footer" };
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| MALFORMED)?;
        check_frame(bytes)?;
        let footer = Self {
            kind: Kind::from_code(bytes[0]).ok_or(MALFORMED)?,
            writer: Incarnation {
                broker: crate::BrokerId(i32::from_be_bytes(field(bytes, 4))),
                epoch: crate::BrokerEpoch(u64::from_be_bytes(field(bytes, 8))),
            },
            number: u64::from_be_bytes(field(bytes, 16)),
            states_position: u64::from_be_bytes(field(bytes, 24)),
            index_position: u64::from_be_bytes(field(bytes, 32)),
            index_size: u32::from_be_bytes(field(bytes, 40)),
            index_crc: u32::from_be_bytes(field(bytes, 44)),
        };
        let ordered = OBJECT_HEADER_LEN as u64 <= footer.states_position
            && footer.states_position <= footer.index_position
            && footer.checked_size().is_some();
        if ordered { Ok(footer) } else { Err(MALFORMED) }
    }

    /// Size in bytes of the whole object.
    pub fn object_size(&self) -> u64 {
        self.checked_size().expect("checked when the footer was read, far smaller when it is written")
    }

    fn checked_size(&self) -> Option<u64> {
        self.index_position.checked_add(u64::from(self.index_size))?.checked_add(Self::LEN as u64)
    }

    /// Reads the index block that this footer speaks of: checks its CRC, and that the blocks lie where blocks may lie.
    pub fn read_index(&self, block: &[u8]) -> Result<Index, FormatError> {
        if block.len() != self.index_size as usize {
            return Err(FormatError::Malformed { what: "index block" });
        }
        if crc32c::crc32c(block) != self.index_crc {
            return Err(FormatError::BadCrc { what: "index block" });
        }
        let index = Index::decode_slice(block)?;
        index.check_places(self)?;
        Ok(index)
    }
}

/// What holds for footers of all versions: magic, CRC, version.
fn check_frame(bytes: &[u8; Footer::LEN]) -> Result<(), FormatError> {
    let magic = u32::from_be_bytes(field(bytes, MAGIC_AT));
    if magic != FOOTER_MAGIC {
        return Err(FormatError::BadMagic(magic));
    }
    if u32::from_be_bytes(field(bytes, CRC_AT)) != crc32c::crc32c(&bytes[..CRC_AT]) {
        return Err(FormatError::BadCrc { what: "footer" });
    }
    codec::check_version(u16::from_be_bytes(field(bytes, VERSION_AT)), "footer")
}

fn field<const N: usize>(bytes: &[u8; Footer::LEN], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("fields lie within the footer")
}
