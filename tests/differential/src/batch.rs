//! Record batches of magic 2, right and wrong in every field: <https://kafka.apache.org/documentation/#recordbatch>.

use serde_json::{Value, json};

/// Where the CRC ends and what it covers begins.
const CRC_END: usize = 21;
/// Bytes that the length field doesn't count.
const LENGTH_END: usize = 12;
/// Bytes of the header.
const HEADER: usize = 61;

/// A batch to be produced. Every field of the header is what a well-behaved client sends unless it is changed.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub magic: i8,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    /// Added to the length, the CRC.
    pub length_off_by: i32,
    pub crc_off_by: u32,
    /// What stands behind the header.
    pub records: Vec<u8>,
}

/// A record within a batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Added to the length.
    pub length_off_by: i64,
}

/// The timestamp of the first record, in milliseconds: a fixed time in the past that no retention has reached yet
/// where the test's topics keep records for ever.
pub const TIMESTAMP: i64 = 1_700_000_000_000;

impl Default for Record<'_> {
    fn default() -> Self {
        Self {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta: 0,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &[],
            length_off_by: 0,
        }
    }
}

impl Record<'_> {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = vec![self.attributes as u8];
        varint(self.timestamp_delta, &mut body);
        varint(self.offset_delta, &mut body);
        blob(self.key, &mut body);
        blob(self.value, &mut body);
        varint(self.headers.len() as i64, &mut body);
        for (name, value) in self.headers {
            blob(Some(name.as_bytes()), &mut body);
            blob(*value, &mut body);
        }
        let mut out = Vec::new();
        varint(body.len() as i64 + self.length_off_by, &mut out);
        out.extend(body);
        out
    }
}

impl Batch {
    /// A batch of `count` records, a millisecond apart.
    pub fn of(count: i32) -> Self {
        let record = |delta: i32| {
            let (timestamp_delta, offset_delta) = (delta.into(), delta.into());
            Record { timestamp_delta, offset_delta, ..Record::default() }.encode()
        };
        Self::holding(count, (0..count).flat_map(record).collect())
    }

    /// A batch of `count` records with these bytes.
    pub fn holding(count: i32, records: Vec<u8>) -> Self {
        Self {
            base_offset: 0,
            leader_epoch: -1,
            magic: 2,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: TIMESTAMP,
            max_timestamp: TIMESTAMP + i64::from(count) - 1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            length_off_by: 0,
            crc_off_by: 0,
            records,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let body = [
            &self.attributes.to_be_bytes()[..],
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp.to_be_bytes(),
            &self.max_timestamp.to_be_bytes(),
            &self.producer_id.to_be_bytes(),
            &self.producer_epoch.to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.count.to_be_bytes(),
            &self.records,
        ]
        .concat();
        let length = (CRC_END - LENGTH_END + body.len()) as i32;
        [
            &self.base_offset.to_be_bytes()[..],
            &length.wrapping_add(self.length_off_by).to_be_bytes(),
            &self.leader_epoch.to_be_bytes(),
            &self.magic.to_be_bytes(),
            &crc32c::crc32c(&body).wrapping_add(self.crc_off_by).to_be_bytes(),
            &body,
        ]
        .concat()
    }

    /// In hexadecimal, as messages have it.
    pub fn hex(&self) -> String {
        hex::encode(self.encode())
    }
}

/// The batch of `Count` records with these fields of a producer.
pub fn of_fields(fields: &Value) -> Batch {
    let number = |name: &str| fields[name].as_i64();
    let mut batch = Batch::of(number("Count").unwrap_or(1) as i32);
    batch.producer_id = number("ProducerId").unwrap_or(-1);
    batch.producer_epoch = number("ProducerEpoch").unwrap_or(-1) as i16;
    batch.base_sequence = number("BaseSequence").unwrap_or(-1) as i32;
    batch.attributes = number("Attributes").unwrap_or(0) as i16;
    batch
}

/// What a Fetch returned, batch by batch; the raw text where it isn't whole batches of magic 2.
pub fn describe(hexadecimal: &str) -> Value {
    let Ok(bytes) = hex::decode(hexadecimal) else { return json!(hexadecimal) };
    let (mut rest, mut batches) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = rest.get(8..LENGTH_END).map(|length| i64::from(number(length) as i32));
        let end = length.and_then(|length| usize::try_from(length + LENGTH_END as i64).ok());
        let Some((batch, behind)) = end.and_then(|end| rest.split_at_checked(end)) else {
            batches.push(json!({ "CutOff": hex::encode(rest) }));
            break;
        };
        batches.push(batch_fields(batch));
        rest = behind;
    }
    batches.into()
}

fn batch_fields(batch: &[u8]) -> Value {
    if batch.len() < HEADER {
        return json!({ "CutOff": hex::encode(batch) });
    }
    let crc_is_right = number(&batch[17..CRC_END]) as u32 == crc32c::crc32c(&batch[CRC_END..]);
    json!({
        "BaseOffset": number(&batch[..8]),
        "LeaderEpoch": number(&batch[12..16]) as i32,
        "Magic": batch[16],
        "CrcIsRight": crc_is_right,
        "Attributes": number(&batch[21..23]) as i16,
        "LastOffsetDelta": number(&batch[23..27]) as i32,
        "BaseTimestamp": number(&batch[27..35]),
        "MaxTimestamp": number(&batch[35..43]),
        "ProducerId": number(&batch[43..51]),
        "ProducerEpoch": number(&batch[51..53]) as i16,
        "BaseSequence": number(&batch[53..57]) as i32,
        "Count": number(&batch[57..61]) as i32,
        "Payload": hex::encode(&batch[HEADER..]),
    })
}

/// Up to eight bytes, the highest first.
fn number(bytes: &[u8]) -> i64 {
    bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))
}

/// Zigzag, the lowest bits first.
pub fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn blob(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    varint(bytes.map_or(-1, |bytes| bytes.len() as i64), out);
    out.extend(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_described_by_its_fields_and_what_is_cut_off_as_such() {
        let bytes =
            [Batch { base_sequence: 5, ..Batch::of(2) }.encode(), Batch::of(1).encode()[..70].to_vec()]
                .concat();
        let described = describe(&hex::encode(bytes));
        assert_eq!(described[0]["Count"], 2);
        assert_eq!(described[0]["BaseSequence"], 5);
        assert_eq!(described[0]["CrcIsRight"], true);
        assert!(described[1]["CutOff"].is_string());
        let wrong = Batch { crc_off_by: 1, ..Batch::of(1) };
        assert_eq!(describe(&wrong.hex())[0]["CrcIsRight"], false);
    }
}
