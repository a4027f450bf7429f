//! Whole messages out of their schemas: a structure with public fields, read and written in every version.

use super::{Schemas, head, literal, snake_case, versions};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write as _;

/// Requests and responses in which `kafka-protocol` is behind.
const MESSAGES: [&str; 8] = [
    "OffsetCommitRequest",
    "OffsetFetchRequest",
    "WriteTxnMarkersRequest",
    "WriteTxnMarkersResponse",
    "DescribeLogDirsRequest",
    "DescribeLogDirsResponse",
    "AddRaftVoterRequest",
    "AddRaftVoterResponse",
];

/// Records of coordinators: the key and the value of each.
const RECORDS: [&str; 6] = [
    "OffsetCommitKey",
    "OffsetCommitValue",
    "GroupMetadataKey",
    "GroupMetadataValue",
    "TransactionLogKey",
    "TransactionLogValue",
];

/// The code of all of them.
pub(super) fn code(schemas: &Schemas) -> Result<String> {
    let mut out = head();
    out += "//! Messages that `kafka-protocol` lacks: a module for each, with its parts.\n\n";
    for name in MESSAGES.iter().chain(&RECORDS) {
        let schema = schemas.get(*name).with_context(|| format!("no schema {name}"))?;
        out += &message(name, schema).with_context(|| (*name).to_owned())?;
    }
    Ok(out)
}

fn message(name: &str, schema: &Value) -> Result<String> {
    let (min, max) = versions(&schema["validVersions"])?;
    let flexible = versions(&schema["flexibleVersions"])?.0;
    let module = snake_case(name);
    let module = module.trim_start_matches('_');
    let valid = (min, max);
    let mut parts = vec![structure(name, &schema["fields"], valid)?];
    nested(&schema["fields"], valid, &mut parts)?;
    for common in schema["commonStructs"].as_array().into_iter().flatten() {
        parts.push(structure(common["name"].as_str().context("name")?, &common["fields"], valid)?);
        nested(&common["fields"], valid, &mut parts)?;
    }
    let mut out = format!(
        "pub use {module}::{name};\n\n/// `{name}`, versions {min} to {max}.\npub mod {module} {{\n\
         use crate::codec::*;\n\n{}\n\
         impl Message for {name} {{\n\
         const VERSIONS: (i16, i16) = ({min}, {max});\nconst FLEXIBLE: i16 = {};\n",
        parts.join("\n"),
        literal(flexible)
    );
    if schema["type"].as_str().is_some_and(|kind| kind.starts_with("coordinator")) {
        writeln!(out, "const RECORD_TYPE: i16 = {};", schema["apiKey"])?;
    }
    Ok(out + "}\n}\n\n")
}

/// The structures that fields are declared with in place.
fn nested(fields: &Value, valid: (i16, i16), parts: &mut Vec<String>) -> Result<()> {
    for field in fields.as_array().into_iter().flatten() {
        if field["fields"].is_array() {
            let name = field["type"].as_str().context("type")?.trim_start_matches("[]");
            parts.push(structure(name, &field["fields"], valid)?);
            nested(&field["fields"], valid, parts)?;
        }
    }
    Ok(())
}

/// `valid` are the first and last version of the message.
fn structure(name: &str, fields: &Value, valid: (i16, i16)) -> Result<String> {
    let fields: Vec<Field> = fields.as_array().into_iter().flatten().map(Field::of).collect::<Result<_>>()?;
    let (mut declared, mut defaults, mut read, mut written) =
        (String::new(), String::new(), String::new(), String::new());
    let (mut read_tags, mut written_tags) = (String::new(), String::new());
    for field in &fields {
        let Field { name, kind, default, .. } = field;
        writeln!(declared, "/// {}\npub {name}: {},", field.doc, kind.rust_type())?;
        writeln!(defaults, "{name}: {default},")?;
        match field.tag {
            Some(tag) => {
                writeln!(read_tags, "{tag} => message.{name} = {},", kind.read())?;
                let value = kind.write(&format!("self.{name}"));
                writeln!(
                    written_tags,
                    "if self.{name} != {default} {{ tags.push(({tag}, writer.tagged(|writer| {value}))); }}"
                )?;
            }
            None => {
                let one_read = format!("message.{name} = {};", kind.read());
                let one_written = format!("{};", kind.write(&format!("self.{name}")));
                read += &field.conditional("reader", &one_read, valid);
                written += &field.conditional("writer", &one_written, valid);
            }
        }
    }
    let read_tags = match read_tags.is_empty() {
        true => "reader.skip_tags()?;".to_owned(),
        false => format!(
            "reader.tags(|tag, reader| {{ match tag {{ {read_tags} _ => return Ok(false), }} Ok(true) }})?;"
        ),
    };
    let written_tags = match written_tags.is_empty() {
        true => "writer.tags(Vec::new());".to_owned(),
        false => format!("let mut tags = Vec::new();\n{written_tags} writer.tags(tags);"),
    };
    Ok(format!(
        "/// `{name}`.\n#[derive(Clone, Debug, PartialEq)]\npub struct {name} {{ {declared} }}\n\n\
         impl Default for {name} {{ fn default() -> Self {{ Self {{ {defaults} }} }} }}\n\n\
         impl Codec for {name} {{\n\
         fn read(reader: &mut Reader) -> Result<Self, Malformed> {{\n\
         let mut message = Self::default();\n{read}{read_tags}\nOk(message)\n}}\n\n\
         fn write(&self, writer: &mut Writer) {{\n{written}{written_tags}\n}}\n}}\n"
    ))
}

struct Field {
    name: String,
    doc: String,
    kind: Kind,
    default: String,
    first: i16,
    last: i16,
    tag: Option<i64>,
}

impl Field {
    /// A statement for the versions that have the field; as it is where all have.
    fn conditional(&self, who: &str, statement: &str, valid: (i16, i16)) -> String {
        if self.first <= valid.0 && valid.1 <= self.last {
            return format!("{statement}\n");
        }
        format!("if {who}.has({}, {}) {{ {statement} }}\n", self.first, literal(self.last))
    }

    fn of(field: &Value) -> Result<Self> {
        let kafkas = field["name"].as_str().context("field name")?;
        // A tagged field may leave its versions out.
        let since = if field["versions"].is_null() { "taggedVersions" } else { "versions" };
        let (first, last) = versions(&field[since])?;
        let kind = Kind::of(field["type"].as_str().context("type")?, field["nullableVersions"].is_string());
        let until = if last == i16::MAX { String::new() } else { format!(" to {last}") };
        Ok(Self {
            name: snake_case(kafkas),
            doc: format!("`{kafkas}`, from version {first}{until}."),
            default: kind.default(&field["default"]),
            kind,
            first,
            last,
            tag: field["tag"].as_i64(),
        })
    }
}

/// A type of the schemas' language.
enum Kind {
    /// Of a fixed size: Rust's type, and the codec's name of it.
    Plain(&'static str, &'static str),
    Str {
        nullable: bool,
    },
    Blob {
        nullable: bool,
    },
    Array {
        element: Box<Kind>,
        nullable: bool,
    },
    Struct(String),
}

impl Kind {
    fn of(name: &str, nullable: bool) -> Self {
        if let Some(element) = name.strip_prefix("[]") {
            return Self::Array { element: Box::new(Self::of(element, false)), nullable };
        }
        match name {
            "bool" => Self::Plain("bool", "bool"),
            "int8" => Self::Plain("i8", "i8"),
            "int16" => Self::Plain("i16", "i16"),
            "uint16" => Self::Plain("u16", "u16"),
            "int32" => Self::Plain("i32", "i32"),
            "int64" => Self::Plain("i64", "i64"),
            "uuid" => Self::Plain("Uuid", "uuid"),
            "string" => Self::Str { nullable },
            "bytes" | "records" => Self::Blob { nullable },
            name => Self::Struct(name.to_owned()),
        }
    }

    fn rust_type(&self) -> String {
        match self {
            Self::Plain(name, _) => (*name).to_owned(),
            Self::Str { nullable } => optional("StrBytes".into(), *nullable),
            Self::Blob { nullable } => optional("Bytes".into(), *nullable),
            Self::Array { element, nullable } => optional(format!("Vec<{}>", element.rust_type()), *nullable),
            Self::Struct(name) => name.clone(),
        }
    }

    fn default(&self, given: &Value) -> String {
        let number = match given {
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) if text.parse::<i64>().is_ok() || text == "true" || text == "false" => {
                Some(text.clone())
            }
            _ => None,
        };
        match self {
            Self::Plain("bool", _) => number.unwrap_or("false".into()),
            Self::Plain("Uuid", _) => "Uuid::nil()".into(),
            Self::Plain(..) => number.unwrap_or("0".into()),
            // A nullable field is empty, not null, unless the schema says so.
            Self::Str { nullable: true } if given != "null" => "Some(StrBytes::default())".into(),
            Self::Array { nullable: true, .. } if given != "null" => "Some(Vec::new())".into(),
            Self::Str { nullable: true }
            | Self::Blob { nullable: true }
            | Self::Array { nullable: true, .. } => "None".into(),
            _ => "Default::default()".into(),
        }
    }

    fn read(&self) -> String {
        match self {
            Self::Plain(_, name) => format!("reader.{name}()?"),
            Self::Str { nullable } => format!("reader.{}string()?", prefix(*nullable)),
            Self::Blob { nullable } => format!("reader.{}bytes()?", prefix(*nullable)),
            Self::Array { element, nullable } => {
                let each = match &**element {
                    Self::Plain(_, name) => format!("Reader::{name}"),
                    Self::Str { .. } => "Reader::string".into(),
                    Self::Struct(_) => "Codec::read".into(),
                    element => format!("|reader| Ok({})", element.read()),
                };
                format!("reader.{}array({each})?", prefix(*nullable))
            }
            Self::Struct(_) => "Codec::read(reader)?".into(),
        }
    }

    /// Writes the place `value`.
    fn write(&self, value: &str) -> String {
        match self {
            Self::Plain(_, name) => format!("writer.{name}({value})"),
            Self::Str { nullable } => {
                format!("writer.{}string({})", prefix(*nullable), reference(value, *nullable))
            }
            Self::Blob { nullable } => {
                format!("writer.{}bytes({})", prefix(*nullable), reference(value, *nullable))
            }
            Self::Array { element, nullable } => {
                let each = match &**element {
                    Self::Plain(..) => element.write("*item"),
                    Self::Str { .. } | Self::Blob { .. } => element.write("item").replace("&item", "item"),
                    _ => element.write("item"),
                };
                let items = if *nullable { format!("{value}.as_deref()") } else { format!("&{value}") };
                format!("writer.{}array({items}, |writer, item| {each})", prefix(*nullable))
            }
            Self::Struct(_) => format!("{value}.write(writer)"),
        }
    }
}

fn optional(name: String, nullable: bool) -> String {
    if nullable { format!("Option<{name}>") } else { name }
}

fn prefix(nullable: bool) -> &'static str {
    if nullable { "nullable_" } else { "" }
}

fn reference(value: &str, nullable: bool) -> String {
    if nullable { format!("{value}.as_ref()") } else { format!("&{value}") }
}
