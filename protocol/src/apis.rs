//! The APIs that Thalweg serves, in Kafka 4.3.1's versions.

use crate::errors::ErrorCode;
use crate::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use crate::messages::{ApiVersionsResponse, StrBytes};
use crate::schema::{Schema, schema_of};

/// Hands the list of served APIs to a macro. To serve one more, add its line: the compiler then asks for its handler.
macro_rules! for_each_api {
    ($then:ident) => {
        $then! {
            Produce = 0: ProduceRequest, ProduceResponse;
            Fetch = 1: FetchRequest, FetchResponse;
            ListOffsets = 2: ListOffsetsRequest, ListOffsetsResponse;
            Metadata = 3: MetadataRequest, MetadataResponse;
            OffsetCommit = 8: OffsetCommitRequest, OffsetCommitResponse;
            OffsetFetch = 9: OffsetFetchRequest, OffsetFetchResponse;
            FindCoordinator = 10: FindCoordinatorRequest, FindCoordinatorResponse;
            JoinGroup = 11: JoinGroupRequest, JoinGroupResponse;
            Heartbeat = 12: HeartbeatRequest, HeartbeatResponse;
            LeaveGroup = 13: LeaveGroupRequest, LeaveGroupResponse;
            SyncGroup = 14: SyncGroupRequest, SyncGroupResponse;
            DescribeGroups = 15: DescribeGroupsRequest, DescribeGroupsResponse;
            ListGroups = 16: ListGroupsRequest, ListGroupsResponse;
            ApiVersions = 18: ApiVersionsRequest, ApiVersionsResponse;
            CreateTopics = 19: CreateTopicsRequest, CreateTopicsResponse;
            DeleteTopics = 20: DeleteTopicsRequest, DeleteTopicsResponse;
            DeleteRecords = 21: DeleteRecordsRequest, DeleteRecordsResponse;
            InitProducerId = 22: InitProducerIdRequest, InitProducerIdResponse;
            OffsetForLeaderEpoch = 23: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
            AddPartitionsToTxn = 24: AddPartitionsToTxnRequest, AddPartitionsToTxnResponse;
            AddOffsetsToTxn = 25: AddOffsetsToTxnRequest, AddOffsetsToTxnResponse;
            EndTxn = 26: EndTxnRequest, EndTxnResponse;
            WriteTxnMarkers = 27: WriteTxnMarkersRequest, WriteTxnMarkersResponse;
            TxnOffsetCommit = 28: TxnOffsetCommitRequest, TxnOffsetCommitResponse;
            DescribeAcls = 29: DescribeAclsRequest, DescribeAclsResponse;
            CreateAcls = 30: CreateAclsRequest, CreateAclsResponse;
            DeleteAcls = 31: DeleteAclsRequest, DeleteAclsResponse;
            DescribeConfigs = 32: DescribeConfigsRequest, DescribeConfigsResponse;
            AlterConfigs = 33: AlterConfigsRequest, AlterConfigsResponse;
            AlterReplicaLogDirs = 34: AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse;
            DescribeLogDirs = 35: DescribeLogDirsRequest, DescribeLogDirsResponse;
            CreatePartitions = 37: CreatePartitionsRequest, CreatePartitionsResponse;
            CreateDelegationToken = 38: CreateDelegationTokenRequest, CreateDelegationTokenResponse;
            RenewDelegationToken = 39: RenewDelegationTokenRequest, RenewDelegationTokenResponse;
            ExpireDelegationToken = 40: ExpireDelegationTokenRequest, ExpireDelegationTokenResponse;
            DescribeDelegationToken = 41: DescribeDelegationTokenRequest, DescribeDelegationTokenResponse;
            DeleteGroups = 42: DeleteGroupsRequest, DeleteGroupsResponse;
            ElectLeaders = 43: ElectLeadersRequest, ElectLeadersResponse;
            IncrementalAlterConfigs = 44: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
            AlterPartitionReassignments = 45: AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
            ListPartitionReassignments = 46: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
            OffsetDelete = 47: OffsetDeleteRequest, OffsetDeleteResponse;
            DescribeClientQuotas = 48: DescribeClientQuotasRequest, DescribeClientQuotasResponse;
            AlterClientQuotas = 49: AlterClientQuotasRequest, AlterClientQuotasResponse;
            DescribeUserScramCredentials = 50: DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
            AlterUserScramCredentials = 51: AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse;
            DescribeQuorum = 55: DescribeQuorumRequest, DescribeQuorumResponse;
            UpdateFeatures = 57: UpdateFeaturesRequest, UpdateFeaturesResponse;
            DescribeCluster = 60: DescribeClusterRequest, DescribeClusterResponse;
            DescribeProducers = 61: DescribeProducersRequest, DescribeProducersResponse;
            UnregisterBroker = 64: UnregisterBrokerRequest, UnregisterBrokerResponse;
            DescribeTransactions = 65: DescribeTransactionsRequest, DescribeTransactionsResponse;
            ListTransactions = 66: ListTransactionsRequest, ListTransactionsResponse;
            ListConfigResources = 74: ListConfigResourcesRequest, ListConfigResourcesResponse;
            DescribeTopicPartitions = 75: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
            AddRaftVoter = 80: AddRaftVoterRequest, AddRaftVoterResponse;
            RemoveRaftVoter = 81: RemoveRaftVoterRequest, RemoveRaftVoterResponse;
        }
    };
}
pub(crate) use for_each_api;

macro_rules! api_keys {
    ($($name:ident = $key:literal: $request:ident, $response:ident;)*) => {
        /// An API that Thalweg serves.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        #[expect(missing_docs, reason = "the names are Kafka's, which documents them")]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// All of them, in the order of their keys.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The API of a key; none if it isn't served.
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

for_each_api!(api_keys);

impl ApiKey {
    /// The number that stands first in a request.
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// First and last version that is served, both inclusive. Kafka's unstable last versions are not.
    pub fn versions(self) -> (i16, i16) {
        let schema = self.schema();
        (schema.min, schema.max)
    }

    /// Whether a version is served.
    pub fn serves(self, version: i16) -> bool {
        let (first, last) = self.versions();
        first <= version && version <= last
    }

    /// Version of the request header: 2 has tagged fields. Defined for versions to come too, as an ApiVersions request
    /// of any version must be understood.
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.schema().flexible { 2 } else { 1 }
    }

    /// Version of the response header: 1 has tagged fields. Always 0 for ApiVersions, whose client does not know yet
    /// what the broker speaks (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        (self != Self::ApiVersions && version >= self.schema().flexible).into()
    }

    pub(crate) fn schema(self) -> &'static Schema {
        schema_of(self.key()).expect("every served API is one of Kafka's, see the test below")
    }

    /// The version whose layout is encoded and decoded. Kafka raises versions for new values of a field too (ListOffsets
    /// 11 has a new special timestamp), and `kafka-protocol` doesn't know the latest of those.
    pub(crate) fn layout(self, version: i16) -> i16 {
        match self {
            Self::ListOffsets => version.min(10),
            _ => version,
        }
    }

    /// As advertised. Produce from 0, though it is served from 3, as by Kafka: librdkafka takes a higher minimum for a
    /// broker that lacks features (KAFKA-18659).
    fn advertised(self) -> ApiVersion {
        let (first, last) = self.versions();
        let first = if self == Self::Produce { 0 } else { first };
        ApiVersion::default().with_api_key(self.key()).with_min_version(first).with_max_version(last)
    }
}

/// A feature of the cluster as Kafka negotiates them (KIP-584, KIP-1022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Kafka's name of it.
    pub name: &'static str,
    /// First level that is supported.
    pub min: i16,
    /// Last level that is supported.
    pub max: i16,
    /// The level in force; 0 where it is switched off.
    pub finalized: i16,
}

/// The features that Thalweg has, at the levels of a new Kafka 4.3.1 cluster. `group.version` (0–1, at 1) joins with the APIs
/// that it stands for.
pub const FEATURES: &[Feature] = &[
    Feature { name: "eligible.leader.replicas.version", min: 0, max: 1, finalized: 1 },
    Feature { name: "kraft.version", min: 0, max: 1, finalized: 1 },
    Feature { name: "metadata.version", min: 7, max: 30, finalized: 30 },
    Feature { name: "transaction.version", min: 0, max: 2, finalized: 2 },
];

/// The answer to an ApiVersions request of version `version`, which may be one that isn't served: then, in the layout
/// of version 0, UNSUPPORTED_VERSION and the versions of ApiVersions alone (KIP-511). `epoch` is that of the finalized
/// features.
pub fn api_versions_response(version: i16, features: &[Feature], epoch: i64) -> ApiVersionsResponse {
    if !ApiKey::ApiVersions.serves(version) {
        return ApiVersionsResponse::default()
            .with_error_code(ErrorCode::UnsupportedVersion.code())
            .with_api_keys(vec![ApiKey::ApiVersions.advertised()]);
    }
    let response = ApiVersionsResponse::default()
        .with_api_keys(ApiKey::ALL.iter().map(|api| api.advertised()).collect());
    if version < 3 {
        return response;
    }
    response
        .with_supported_features(supported(version, features))
        .with_finalized_features(finalized(features))
        .with_finalized_features_epoch(epoch)
}

/// Before version 4, clients fail on a feature that is supported from level 0 (KAFKA-17492).
fn supported(version: i16, features: &[Feature]) -> Vec<SupportedFeatureKey> {
    let shown = features.iter().filter(|feature| version >= 4 || feature.min > 0);
    let key = |feature: &Feature| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(feature.name))
            .with_min_version(feature.min)
            .with_max_version(feature.max)
    };
    shown.map(key).collect()
}

fn finalized(features: &[Feature]) -> Vec<FinalizedFeatureKey> {
    let on = features.iter().filter(|feature| feature.finalized != 0);
    let key = |feature: &Feature| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(feature.name))
            .with_min_version_level(feature.finalized)
            .with_max_version_level(feature.finalized)
    };
    on.map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::protocol::Message;

    #[test]
    fn every_api_has_the_schema_of_its_name() {
        for api in ApiKey::ALL {
            assert_eq!(api.schema().name, api.name());
            assert_eq!(ApiKey::from_key(api.key()), Some(*api));
        }
        assert!(ApiKey::ALL.is_sorted());
    }

    #[test]
    fn kafka_protocol_knows_the_layout_of_every_version() {
        macro_rules! check {
            ($($name:ident = $key:literal: $request:ident, $response:ident;)*) => {$(
                let api = ApiKey::$name;
                // Generated messages are of Kafka 4.3.1 itself.
                let both =
                    [ApiKey::WriteTxnMarkers, ApiKey::DescribeLogDirs, ApiKey::AddRaftVoter].contains(&api);
                let generated = both || [ApiKey::OffsetCommit, ApiKey::OffsetFetch].contains(&api);
                let known = kafka_protocol::messages::$request::VERSIONS;
                let known_response = kafka_protocol::messages::$response::VERSIONS;
                for version in api.versions().0..=api.versions().1 {
                    let layout = api.layout(version);
                    assert!(generated || known.min <= layout && layout <= known.max, "{api:?} {version}");
                    let knows_response = known_response.min <= layout && layout <= known_response.max;
                    assert!(both || knows_response, "{api:?} {version}");
                    assert!(api.schema().same_layout(version, layout), "{api:?} {version}");
                }
            )*};
        }
        for_each_api!(check);
    }

    #[test]
    fn versions_are_those_of_kafka_4_3_1() {
        let line = |api: &ApiKey| format!("{} {} {:?}\n", api.key(), api.name(), api.versions());
        let table: String = ApiKey::ALL.iter().map(line).collect();
        expect_test::expect![[r#"
            0 Produce (3, 13)
            1 Fetch (4, 18)
            2 ListOffsets (1, 11)
            3 Metadata (0, 13)
            8 OffsetCommit (2, 10)
            9 OffsetFetch (1, 10)
            10 FindCoordinator (0, 6)
            11 JoinGroup (0, 9)
            12 Heartbeat (0, 4)
            13 LeaveGroup (0, 5)
            14 SyncGroup (0, 5)
            15 DescribeGroups (0, 6)
            16 ListGroups (0, 5)
            18 ApiVersions (0, 4)
            19 CreateTopics (2, 7)
            20 DeleteTopics (1, 6)
            21 DeleteRecords (0, 2)
            22 InitProducerId (0, 5)
            23 OffsetForLeaderEpoch (2, 4)
            24 AddPartitionsToTxn (0, 5)
            25 AddOffsetsToTxn (0, 4)
            26 EndTxn (0, 5)
            27 WriteTxnMarkers (1, 2)
            28 TxnOffsetCommit (0, 5)
            29 DescribeAcls (1, 3)
            30 CreateAcls (1, 3)
            31 DeleteAcls (1, 3)
            32 DescribeConfigs (1, 4)
            33 AlterConfigs (0, 2)
            34 AlterReplicaLogDirs (1, 2)
            35 DescribeLogDirs (1, 5)
            37 CreatePartitions (0, 3)
            38 CreateDelegationToken (1, 3)
            39 RenewDelegationToken (1, 2)
            40 ExpireDelegationToken (1, 2)
            41 DescribeDelegationToken (1, 3)
            42 DeleteGroups (0, 2)
            43 ElectLeaders (0, 2)
            44 IncrementalAlterConfigs (0, 1)
            45 AlterPartitionReassignments (0, 1)
            46 ListPartitionReassignments (0, 0)
            47 OffsetDelete (0, 0)
            48 DescribeClientQuotas (0, 1)
            49 AlterClientQuotas (0, 1)
            50 DescribeUserScramCredentials (0, 0)
            51 AlterUserScramCredentials (0, 0)
            55 DescribeQuorum (0, 2)
            57 UpdateFeatures (0, 2)
            60 DescribeCluster (0, 2)
            61 DescribeProducers (0, 0)
            64 UnregisterBroker (0, 0)
            65 DescribeTransactions (0, 0)
            66 ListTransactions (0, 2)
            74 ListConfigResources (0, 1)
            75 DescribeTopicPartitions (0, 0)
            80 AddRaftVoter (0, 1)
            81 RemoveRaftVoter (0, 0)
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn produce_is_advertised_from_version_0_for_librdkafka() {
        let response = api_versions_response(4, FEATURES, 1);
        let produce = &response.api_keys[0];
        assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
        assert!(!ApiKey::Produce.serves(2));
    }

    #[test]
    fn a_version_to_come_is_answered_with_the_versions_of_api_versions_alone() {
        let response = api_versions_response(99, FEATURES, 1);
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys, [ApiKey::ApiVersions.advertised()]);
        assert!(response.finalized_features.is_empty());
    }

    #[test]
    fn features_from_level_0_are_kept_from_clients_that_fail_on_them() {
        let features = [Feature { name: "group.version", min: 0, max: 1, finalized: 1 }];
        assert!(api_versions_response(3, &features, 1).supported_features.is_empty());
        assert_eq!(api_versions_response(4, &features, 1).supported_features.len(), 1);
        assert_eq!(api_versions_response(3, &features, 1).finalized_features.len(), 1);
    }
}
