//! What administrators store beside topics and settings: quotas, credentials, levels of features. Each with its layout.

use crate::{
    KvError,
    codec::{Reader, Writer},
    records::LAYOUT,
};
use bytes::Bytes;
use std::{collections::BTreeMap, fmt};

/// Whom a quota is for: any of a user and a client id together, or an address alone. Of each, `Some(None)` is the default for
/// all that have none of their own (KIP-546, KIP-612).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    /// A user's name.
    pub user: Option<Option<String>>,
    /// A client's name of itself.
    pub client_id: Option<Option<String>>,
    /// A client's address.
    pub ip: Option<Option<String>>,
}

/// The quotas of one entity, by Kafka's names of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuotaRecord {
    /// Bytes a second, percent of a thread, connections or mutations a second: by the name.
    pub values: BTreeMap<String, f64>,
}

/// A user's credential for SCRAM (RFC 5802): what a server needs to check a password, which can't be told from it.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramRecord {
    /// How often the password was hashed.
    pub iterations: u32,
    /// What was hashed with it.
    pub salt: Bytes,
    /// Checks the client.
    pub stored_key: Bytes,
    /// Proves the server.
    pub server_key: Bytes,
}

impl fmt::Debug for ScramRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramRecord").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// The levels of features that differ from those of a new cluster (KIP-584).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturesRecord {
    /// Rises with each change.
    pub epoch: i64,
    /// Level by name.
    pub levels: BTreeMap<String, i16>,
}

impl QuotaRecord {
    /// `quotas: (name string | value f64)*`; the entity is in the key.
    pub(crate) fn encode(&self) -> Bytes {
        let fields = Writer::value(LAYOUT).length(self.values.len());
        let put = |fields: Writer, (name, value): (&String, &f64)| fields.string(name).u64(value.to_bits());
        self.values.iter().fold(fields, put).finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, KvError> {
        const LENGTH_AND_VALUE: usize = 12;
        let mut reader = Reader::value("quotas", value, LAYOUT)?;
        let length = reader.length(LENGTH_AND_VALUE)?;
        let values = (0..length).map(|_| Ok((reader.string()?, f64::from_bits(reader.u64()?))));
        let values = values.collect::<Result<_, KvError>>()?;
        reader.finish().map(|()| Self { values })
    }
}

impl ScramRecord {
    /// `iterations u32 | salt bytes | stored key bytes | server key bytes`; mechanism and user are in the key.
    pub(crate) fn encode(&self) -> Bytes {
        let fields = Writer::value(LAYOUT).u32(self.iterations);
        fields.bytes(&self.salt).bytes(&self.stored_key).bytes(&self.server_key).finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, KvError> {
        let mut reader = Reader::value("credential", value, LAYOUT)?;
        let record = Self {
            iterations: reader.u32()?,
            salt: reader.bytes()?,
            stored_key: reader.bytes()?,
            server_key: reader.bytes()?,
        };
        reader.finish().map(|()| record)
    }
}

impl FeaturesRecord {
    /// `epoch i64 | levels: (name string | level i16)*`
    pub(crate) fn encode(&self) -> Bytes {
        let fields = Writer::value(LAYOUT).i64(self.epoch).length(self.levels.len());
        let put = |fields: Writer, (name, level): (&String, &i16)| fields.string(name).i16(*level);
        self.levels.iter().fold(fields, put).finish()
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, KvError> {
        const LENGTH_AND_LEVEL: usize = 6;
        let mut reader = Reader::value("features", value, LAYOUT)?;
        let epoch = reader.i64()?;
        let length = reader.length(LENGTH_AND_LEVEL)?;
        let levels = (0..length).map(|_| Ok((reader.string()?, reader.i16()?)));
        let levels = levels.collect::<Result<_, KvError>>()?;
        reader.finish().map(|()| Self { epoch, levels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ResourceKind, keys};
    use proptest::{collection::btree_map, option::of, prelude::*};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn scram() -> ScramRecord {
        let part = Bytes::from_static;
        ScramRecord { iterations: 4096, salt: part(b"s"), stored_key: part(b"ab"), server_key: part(b"") }
    }

    #[test]
    fn the_records_have_these_bytes() {
        let quotas = QuotaRecord { values: [("a".into(), 1.5)].into() };
        assert_eq!(hex(&quotas.encode()), "0100000001".to_owned() + "0000000161" + "3ff8000000000000");
        let expected = "0100001000".to_owned() + "0000000173" + "000000026162" + "00000000";
        assert_eq!(hex(&scram().encode()), expected);
        let features = FeaturesRecord { epoch: 3, levels: [("f".into(), 2)].into() };
        assert_eq!(
            hex(&features.encode()),
            "010000000000000003".to_owned() + "00000001" + "0000000166" + "0002"
        );
    }

    #[test]
    fn the_keys_have_these_bytes() {
        let show = |key: Bytes| key.escape_ascii().to_string();
        assert_eq!(show(keys::resource(ResourceKind::Group, "g/1")), "config/group/g/1");
        assert_eq!(show(keys::resource(ResourceKind::ClientMetrics, "m")), "config/metrics/m");
        let entity = QuotaEntity { user: Some(Some("u".into())), client_id: Some(None), ip: None };
        assert_eq!(show(keys::quota(&entity)), r"quota/\x02\x00\x00\x00\x01u\x01\x00");
        assert_eq!(show(keys::scram(1, "u")), r"scram/\x01u");
    }

    #[test]
    fn a_credential_is_not_shown() {
        assert_eq!(format!("{:?}", scram()), "ScramRecord { iterations: 4096, .. }");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            user in of(of(".*")),
            client_id in of(of(".*")),
            ip in of(of(".*")),
            values in btree_map(".*", -1e300..1e300, 0..4),
            (iterations, salt, stored, server) in any::<(u32, Vec<u8>, Vec<u8>, Vec<u8>)>(),
            (mechanism, name, epoch) in any::<(u8, String, i64)>(),
            levels in btree_map(".*", any::<i16>(), 0..4),
        ) {
            let entity = QuotaEntity { user, client_id, ip };
            prop_assert_eq!(keys::parse_quota(&keys::quota(&entity)).unwrap(), entity);
            let quotas = QuotaRecord { values };
            prop_assert_eq!(QuotaRecord::decode(&quotas.encode()).unwrap(), quotas);
            let (stored_key, server_key) = (stored.into(), server.into());
            let record = ScramRecord { iterations, salt: salt.into(), stored_key, server_key };
            prop_assert_eq!(ScramRecord::decode(&record.encode()).unwrap(), record);
            prop_assert_eq!(keys::parse_scram(&keys::scram(mechanism, &name)).unwrap(), (mechanism, name.clone()));
            for kind in [ResourceKind::Group, ResourceKind::ClientMetrics] {
                prop_assert_eq!(keys::parse_resource(kind, &keys::resource(kind, &name)).unwrap(), name.clone());
            }
            let features = FeaturesRecord { epoch, levels };
            prop_assert_eq!(FeaturesRecord::decode(&features.encode()).unwrap(), features);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_exactly(version in 0..3_u8, rest: Vec<u8>) {
            let value = [&[version][..], &rest].concat();
            if let Ok(record) = ScramRecord::decode(&value) {
                prop_assert_eq!(record.encode(), value.clone());
            }
            let _ = (QuotaRecord::decode(&value), FeaturesRecord::decode(&value));
            let _ = (keys::parse_quota(&rest), keys::parse_scram(&rest));
        }
    }
}
