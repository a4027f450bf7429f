//! The walk over a request's bytes that comes before decoding.
//!
//! `kafka-protocol` reserves memory for an array by the length that the client claims, and a decoded array of small
//! elements takes many times its bytes on the wire. So a request is first walked along its schema (see `generated.rs`),
//! without allocating: every length must fit into the frame, and the memory that decoding will take is summed up, to be
//! charged to a budget before it is taken. What passes the walk decodes.

use crate::errors::DecodeError;
use crate::generated::REQUESTS;

/// Last version of a field that is still there.
pub(crate) const MAX: i16 = i16::MAX;
/// Longest string, in bytes. Compact lengths could say more, but Kafka reads no more in any version.
const LONGEST_STRING: usize = i16::MAX as usize;
/// Memory of the first unknown tagged field of a structure (a node of a `BTreeMap<i32, Bytes>`), and of each further one.
const FIRST_UNKNOWN_TAG: usize = 448;
const NEXT_UNKNOWN_TAG: usize = 112;

/// A request's key, versions and fields.
pub(crate) struct Schema {
    pub api_key: i16,
    pub name: &'static str,
    /// First and last stable version.
    pub min: i16,
    pub max: i16,
    /// First version with compact lengths and tagged fields (KIP-482).
    pub flexible: i16,
    pub fields: &'static [Field],
}

/// What Kafka says of an API; none for a key that no broker serves.
pub(crate) fn schema_of(api_key: i16) -> Option<&'static Schema> {
    let at = REQUESTS.binary_search_by_key(&api_key, |schema| schema.api_key).ok()?;
    Some(&REQUESTS[at])
}

/// One field: in which versions it is there, may be null, and is tagged.
pub(crate) struct Field {
    name: &'static str,
    kind: Kind,
    versions: Versions,
    nullable: Versions,
    tag: Option<(u32, Versions)>,
}

/// A field that is there from version `first` to version `last`.
pub(crate) const fn field(name: &'static str, kind: Kind, first: i16, last: i16) -> Field {
    Field { name, kind, versions: Versions(first, last), nullable: Versions(MAX, -1), tag: None }
}

impl Field {
    pub(crate) const fn nullable(mut self, first: i16, last: i16) -> Self {
        self.nullable = Versions(first, last);
        self
    }

    pub(crate) const fn tagged(mut self, tag: u32, first: i16, last: i16) -> Self {
        self.tag = Some((tag, Versions(first, last)));
        self
    }

    fn is_tagged(&self, version: i16) -> bool {
        self.tag.is_some_and(|(_, versions)| versions.contain(version))
    }

    #[cfg(test)]
    pub(crate) fn kind(&'static self) -> &'static Kind {
        &self.kind
    }

    #[cfg(test)]
    pub(crate) fn is_nullable(&self, version: i16) -> bool {
        self.nullable.contain(version)
    }

    #[cfg(test)]
    pub(crate) fn tag(&self, version: i16) -> Option<u32> {
        self.tag.filter(|(_, versions)| versions.contain(version)).map(|(tag, _)| tag)
    }

    /// Whether the field stands among those without a tag.
    pub(crate) fn is_plain(&self, version: i16) -> bool {
        self.versions.contain(version) && !self.is_tagged(version)
    }

    fn has_tag(&self, tag: u32, version: i16) -> bool {
        self.tag.is_some_and(|(own, versions)| own == tag && versions.contain(version))
    }
}

/// The types of the protocol, as far as their lengths go.
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string: two bytes of length, or a compact one.
    Str,
    /// Bytes or records: four bytes of length, or a compact one.
    Blob,
    /// An array of elements that take so many bytes each when decoded.
    Array(&'static Kind, usize),
    Struct(&'static [Field]),
}

/// First and last version, inclusive.
#[derive(Clone, Copy)]
struct Versions(i16, i16);

impl Versions {
    fn contain(self, version: i16) -> bool {
        self.0 <= version && version <= self.1
    }
}

impl Schema {
    /// Bytes of memory that decoding `body` will take beyond the body itself, which strings and records stay slices of: no more
    /// than `most`. Of the body, the last `missing` bytes may not be there yet: what comes next is then malformed or
    /// too large, the latter for certain.
    pub(crate) fn measure(
        &'static self,
        version: i16,
        body: &[u8],
        missing: usize,
        most: usize,
    ) -> Result<usize, DecodeError> {
        let flexible = version >= self.flexible;
        let mut walk =
            Walk { api: self.name, field: "", rest: body, missing, version, flexible, memory: 0, most };
        walk.fields(self.fields)?;
        Ok(walk.memory)
    }

    /// Whether requests of two versions have the same fields in the same form.
    #[cfg(test)]
    pub(crate) fn same_layout(&self, one: i16, other: i16) -> bool {
        fn same(fields: &[Field], one: i16, other: i16) -> bool {
            fields.iter().all(|field| {
                let equal = |versions: Versions| versions.contain(one) == versions.contain(other);
                let inner = match field.kind {
                    Kind::Struct(inner) => same(inner, one, other),
                    Kind::Array(Kind::Struct(inner), _) => same(inner, one, other),
                    _ => true,
                };
                equal(field.versions)
                    && equal(field.nullable)
                    && field.tag.is_none_or(|tag| equal(tag.1))
                    && inner
            })
        }
        (one >= self.flexible) == (other >= self.flexible) && same(self.fields, one, other)
    }
}

/// Where the walk stands.
struct Walk<'a> {
    api: &'static str,
    field: &'static str,
    rest: &'a [u8],
    /// Bytes of the body behind `rest`.
    missing: usize,
    version: i16,
    flexible: bool,
    memory: usize,
    most: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), DecodeError> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_plain(version)) {
            self.value(field)?;
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn value(&mut self, field: &'static Field) -> Result<(), DecodeError> {
        self.field = field.name;
        let nullable = field.nullable.contain(self.version);
        match &field.kind {
            Kind::Struct(_) if nullable => match self.take(1)?[0] {
                1 => self.kind(&field.kind, false),
                255 => Ok(()),
                _ => Err(self.malformed()),
            },
            kind => self.kind(kind, nullable),
        }
    }

    fn kind(&mut self, kind: &'static Kind, nullable: bool) -> Result<(), DecodeError> {
        match *kind {
            Kind::Fixed(size) => self.take(size).map(drop),
            Kind::Struct(fields) => self.fields(fields),
            Kind::Str | Kind::Blob => {
                let short = matches!(kind, Kind::Str);
                let length = self.length(short, nullable)?.unwrap_or(0);
                if short && length > LONGEST_STRING {
                    return Err(self.malformed());
                }
                self.take(length).map(drop)
            }
            Kind::Array(element, size) => {
                let count = self.length(false, nullable)?.unwrap_or(0);
                self.elements(element, size, count)
            }
        }
    }

    fn elements(&mut self, element: &'static Kind, size: usize, count: usize) -> Result<(), DecodeError> {
        // Every element takes a byte or more on the wire.
        if count > self.rest.len() + self.missing {
            return Err(self.malformed());
        }
        self.add(count.saturating_mul(size))?;
        (0..count).try_for_each(|_| self.kind(element, false))
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), DecodeError> {
        let mut unknown = FIRST_UNKNOWN_TAG;
        for _ in 0..self.uvarint()? {
            let (tag, size) = (self.uvarint()?, self.uvarint()? as usize);
            match fields.iter().find(|field| field.has_tag(tag, self.version)) {
                Some(field) => self.known_tag(field, size)?,
                None => {
                    self.take(size)?;
                    self.add(unknown)?;
                    unknown = NEXT_UNKNOWN_TAG;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.most {
            return Err(DecodeError::TooLarge { api: self.api, most: self.most });
        }
        Ok(())
    }

    /// The decoder goes by the value, not by the size in front of it: they must agree.
    fn known_tag(&mut self, field: &'static Field, size: usize) -> Result<(), DecodeError> {
        let end = self.rest.len().checked_sub(size).ok_or(self.malformed())?;
        self.value(field)?;
        if self.rest.len() == end { Ok(()) } else { Err(self.malformed()) }
    }

    /// The length of a string, blob or array; none for null, where that is allowed.
    fn length(&mut self, short: bool, nullable: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (self.flexible, short) {
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => i64::from(i16::from_be_bytes(self.array()?)),
            (false, false) => i64::from(i32::from_be_bytes(self.array()?)),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 && nullable => Ok(None),
            Err(_) => Err(self.malformed()),
        }
    }

    fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| self.malformed());
            }
        }
        Err(self.malformed())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("as many bytes as asked for"))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { api: self.api, field: self.field }
    }
}
