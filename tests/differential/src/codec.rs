//! Messages as JSON, read and written by their schemas in any version. Written from the protocol's description alone, so
//! that it checks the broker's codec rather than sharing its faults.
//!
//! Bytes are hexadecimal, ids are UUIDs in text. A field that a request leaves out has its default. Tagged fields that no
//! schema knows stand under [`UNKNOWN_TAGS`]. A request may say null where that isn't allowed: it is written as such.

use crate::schema::{Field, Kind, Message};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// Holds `{"tag": "hexadecimal content"}` in any structure.
pub const UNKNOWN_TAGS: &str = "_tags";

/// Writes a message.
pub fn encode(message: &Message, version: i16, value: &Value) -> Result<Vec<u8>> {
    let mut writer = Writer { version, flexible: message.flexible.contain(version), out: Vec::new() };
    writer.fields(&message.fields, value)?;
    Ok(writer.out)
}

/// Reads a message; an error if it isn't one, or if something is left behind it.
pub fn decode(message: &Message, version: i16, bytes: &[u8]) -> Result<Value> {
    let mut reader = Reader { version, flexible: message.flexible.contain(version), rest: bytes };
    let value = reader.fields(&message.fields)?;
    ensure!(reader.rest.is_empty(), "{} bytes too many", reader.rest.len());
    Ok(value)
}

impl Field {
    /// Whether it stands among the fields without a tag.
    pub fn is_plain(&self, version: i16) -> bool {
        self.versions.contain(version) && !self.is_tagged(version)
    }

    /// Whether it is a tagged field.
    pub fn is_tagged(&self, version: i16) -> bool {
        self.tag.is_some_and(|(_, versions)| versions.contain(version))
    }
}

struct Writer {
    version: i16,
    flexible: bool,
    out: Vec<u8>,
}

impl Writer {
    fn fields(&mut self, fields: &[Field], value: &Value) -> Result<()> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_plain(version)) {
            let value = value.get(&field.name).unwrap_or(&field.default);
            self.value(&field.kind, value, field.nullable.contain(self.version))
                .with_context(|| field.name.clone())?;
        }
        if self.flexible { self.tags(fields, value) } else { Ok(()) }
    }

    fn tags(&mut self, fields: &[Field], value: &Value) -> Result<()> {
        let mut tags: Vec<(u32, Vec<u8>)> = Vec::new();
        for field in fields.iter().filter(|field| field.is_tagged(self.version)) {
            let (Some((tag, _)), Some(value)) = (field.tag, value.get(&field.name)) else { continue };
            let mut inner = Self { version: self.version, flexible: true, out: Vec::new() };
            inner.value(&field.kind, value, field.nullable.contain(self.version))?;
            tags.push((tag, inner.out));
        }
        for (tag, content) in value.get(UNKNOWN_TAGS).and_then(Value::as_object).into_iter().flatten() {
            tags.push((tag.parse()?, hex::decode(content.as_str().context("hexadecimal")?)?));
        }
        tags.sort();
        self.uvarint(tags.len() as u64);
        for (tag, content) in tags {
            self.uvarint(tag.into());
            self.uvarint(content.len() as u64);
            self.out.extend(content);
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, value: &Value, nullable: bool) -> Result<()> {
        let integer = || value.as_i64().with_context(|| format!("{value} is no integer"));
        let text = || value.as_str().with_context(|| format!("{value} is no text"));
        match kind {
            Kind::Bool => {
                self.out.push(value.as_bool().map_or_else(integer_byte(value), |value| Ok(value.into()))?);
            }
            Kind::Int8 => self.out.extend((integer()? as i8).to_be_bytes()),
            Kind::Int16 | Kind::Uint16 => self.out.extend((integer()? as i16).to_be_bytes()),
            Kind::Int32 | Kind::Uint32 => self.out.extend((integer()? as i32).to_be_bytes()),
            Kind::Int64 => self.out.extend(integer()?.to_be_bytes()),
            Kind::Float64 => {
                self.out.extend(value.as_f64().context("a floating-point number")?.to_be_bytes());
            }
            Kind::Uuid => self.out.extend(uuid::Uuid::parse_str(text()?)?.into_bytes()),
            Kind::Struct(fields) => {
                if nullable {
                    self.out.push(if value.is_null() { 0xff } else { 1 });
                }
                if !value.is_null() {
                    self.fields(fields, value)?;
                }
            }
            _ if value.is_null() => self.length(kind, None),
            Kind::Str => {
                self.length(kind, Some(text()?.len()));
                self.out.extend(text()?.bytes());
            }
            Kind::Bytes => {
                let bytes = hex::decode(text()?)?;
                self.length(kind, Some(bytes.len()));
                self.out.extend(bytes);
            }
            Kind::Array(element) => {
                let elements = value.as_array().with_context(|| format!("{value} is no array"))?;
                self.length(kind, Some(elements.len()));
                for one in elements {
                    self.value(element, one, false)?;
                }
            }
        }
        Ok(())
    }

    fn length(&mut self, kind: &Kind, length: Option<usize>) {
        match (self.flexible, kind) {
            (true, _) => self.uvarint(length.map_or(0, |length| length as u64 + 1)),
            (false, Kind::Str) => self.out.extend(length.map_or(-1, |length| length as i16).to_be_bytes()),
            (false, _) => self.out.extend(length.map_or(-1, |length| length as i32).to_be_bytes()),
        }
    }

    fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

/// A boolean of a value that is neither true nor false.
fn integer_byte(value: &Value) -> impl Fn() -> Result<u8> {
    move || Ok(value.as_u64().with_context(|| format!("{value} is no boolean"))? as u8)
}

struct Reader<'a> {
    version: i16,
    flexible: bool,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<Value> {
        let (version, mut value) = (self.version, Map::new());
        for field in fields.iter().filter(|field| field.is_plain(version)) {
            let read = self.value(&field.kind, field.nullable.contain(self.version));
            value.insert(field.name.clone(), read.with_context(|| field.name.clone())?);
        }
        if self.flexible {
            self.tags(fields, &mut value)?;
        }
        Ok(value.into())
    }

    fn tags(&mut self, fields: &[Field], value: &mut Map<String, Value>) -> Result<()> {
        for field in fields.iter().filter(|field| field.is_tagged(self.version)) {
            value.insert(field.name.clone(), field.default.clone());
        }
        let mut unknown = Map::new();
        for _ in 0..self.uvarint()? {
            let (tag, size) = (self.uvarint()?, self.uvarint()?);
            let content = self.take(usize::try_from(size)?)?;
            let known = fields.iter().find(|field| {
                field.is_tagged(self.version) && field.tag.is_some_and(|(own, _)| u64::from(own) == tag)
            });
            let Some(field) = known else {
                unknown.insert(tag.to_string(), json!(hex::encode(content)));
                continue;
            };
            let mut inner = Reader { version: self.version, flexible: true, rest: content };
            let read = inner.value(&field.kind, field.nullable.contain(self.version))?;
            ensure!(inner.rest.is_empty(), "{}: {} bytes too many", field.name, inner.rest.len());
            value.insert(field.name.clone(), read);
        }
        if !unknown.is_empty() {
            value.insert(UNKNOWN_TAGS.into(), unknown.into());
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, nullable: bool) -> Result<Value> {
        Ok(match kind {
            Kind::Bool => match self.take(1)?[0] {
                0 => json!(false),
                1 => json!(true),
                other => bail!("a boolean of {other}"),
            },
            Kind::Int8 => json!(i8::from_be_bytes(self.array()?)),
            Kind::Int16 => json!(i16::from_be_bytes(self.array()?)),
            Kind::Uint16 => json!(u16::from_be_bytes(self.array()?)),
            Kind::Int32 => json!(i32::from_be_bytes(self.array()?)),
            Kind::Uint32 => json!(u32::from_be_bytes(self.array()?)),
            Kind::Int64 => json!(i64::from_be_bytes(self.array()?)),
            Kind::Float64 => json!(f64::from_be_bytes(self.array()?)),
            Kind::Uuid => json!(uuid::Uuid::from_bytes(self.array()?).to_string()),
            Kind::Struct(fields) => {
                match nullable.then(|| self.array()).transpose()?.map(i8::from_be_bytes) {
                    Some(-1) => Value::Null,
                    None | Some(1) => self.fields(fields)?,
                    Some(other) => bail!("a structure that begins with {other}"),
                }
            }
            _ => match self.length(kind)? {
                None if nullable => Value::Null,
                None => bail!("null is not allowed"),
                Some(length) => self.sequence(kind, length)?,
            },
        })
    }

    fn sequence(&mut self, kind: &Kind, length: usize) -> Result<Value> {
        Ok(match kind {
            Kind::Str => json!(str::from_utf8(self.take(length)?)?),
            Kind::Array(element) => {
                (0..length).map(|_| self.value(element, false)).collect::<Result<Vec<_>>>()?.into()
            }
            _ => json!(hex::encode(self.take(length)?)),
        })
    }

    fn length(&mut self, kind: &Kind) -> Result<Option<usize>> {
        let length = match (self.flexible, kind) {
            (true, _) => i64::try_from(self.uvarint()?)? - 1,
            (false, Kind::Str) => i16::from_be_bytes(self.array()?).into(),
            (false, _) => i32::from_be_bytes(self.array()?).into(),
        };
        ensure!(length >= -1, "a length of {length}");
        Ok(usize::try_from(length).ok())
    }

    fn uvarint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a varint of more than five bytes")
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).context("it ends early")?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Versions;

    fn field(name: &str, kind: Kind, default: Value) -> Field {
        let always = Versions { first: 0, last: i16::MAX };
        Field {
            name: name.into(),
            kind,
            versions: always,
            nullable: always,
            tag: None,
            default,
            entity: String::new(),
        }
    }

    fn message() -> Message {
        let later = Versions { first: 1, last: i16::MAX };
        let tagged =
            Field { tag: Some((3, later)), versions: later, ..field("Tagged", Kind::Int32, json!(-1)) };
        let part = Kind::Struct(vec![field("Id", Kind::Uuid, json!(crate::schema::ZERO_ID))]);
        let fields = vec![
            field("Name", Kind::Str, json!("")),
            field("Parts", Kind::Array(Box::new(part)), json!([])),
            field("Data", Kind::Bytes, Value::Null),
            tagged,
        ];
        Message { flexible: later, fields }
    }

    #[test]
    fn a_message_is_read_as_it_was_written_in_old_and_flexible_versions() {
        let parts = json!([{ "Id": "00000000-0000-1000-8000-00000000beef" }]);
        let old = json!({ "Name": "é", "Parts": parts, "Data": null });
        let bytes = encode(&message(), 0, &old).unwrap();
        assert_eq!(bytes[..4], [0, 2, 0xc3, 0xa9]);
        assert_eq!(decode(&message(), 0, &bytes).unwrap(), old);
        let mut new =
            json!({ "Name": null, "Parts": parts, "Data": "00ff", "Tagged": 7, UNKNOWN_TAGS: { "9": "aa" } });
        let bytes = encode(&message(), 1, &new).unwrap();
        assert_eq!(decode(&message(), 1, &bytes).unwrap(), new);
        new.as_object_mut().unwrap().remove("Tagged");
        let read = decode(&message(), 1, &encode(&message(), 1, &new).unwrap()).unwrap();
        assert_eq!(read["Tagged"], -1);
    }

    #[test]
    fn what_is_left_over_or_missing_is_an_error() {
        let mut bytes = encode(&message(), 1, &json!({})).unwrap();
        assert!(decode(&message(), 1, &bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        assert!(decode(&message(), 1, &bytes).is_err());
    }
}
