//! Counts, durations and bytes of the requests to the object store.

use super::{Outcome, Purpose};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{collections::BTreeMap, time::Duration};

/// `thalweg_object_store_requests_total{purpose,method,outcome}`
const REQUESTS: (&str, &str) = (
    "thalweg_object_store_requests",
    "Requests to the object store. Listings and bulk deletions count one request per 1,000 keys",
);
/// `thalweg_object_store_request_duration_seconds{purpose,method}`
const DURATION: (&str, &str, Unit) = (
    "thalweg_object_store_request_duration",
    "Time from a request to the object store until its answer has been read",
    Unit::Seconds,
);
/// `thalweg_object_store_transferred_bytes_total{purpose,direction}`
const TRANSFERRED: (&str, &str, Unit) = (
    "thalweg_object_store_transferred",
    "Bytes of objects that were written to (sent) and read from (received) the object store",
    Unit::Bytes,
);

/// The kind of a request: a label of the request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// One PUT of a whole object, conditional or not.
    Put,
    /// A read of an object or a range of it.
    Get,
    /// A read of an object's size and times.
    Head,
    /// A listing.
    List,
    /// A deletion of up to 1,000 objects.
    Delete,
    /// A copy within the store.
    Copy,
    /// A step of a multipart upload.
    Multipart,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Put, Self::Get, Self::Head, Self::List, Self::Delete, Self::Copy, Self::Multipart];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Multipart => "multipart",
        }
    }
}

/// How many requests were made until now, by purpose, method and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts(BTreeMap<(Purpose, Method, Outcome), u64>);

impl RequestCounts {
    /// Requests of this purpose and method, whatever came of them.
    pub fn of(&self, purpose: Purpose, method: Method) -> u64 {
        self.sum(|(p, m, _)| p == purpose && m == method)
    }

    /// Requests of this purpose and method that ended so.
    pub fn with_outcome(&self, purpose: Purpose, method: Method, outcome: Outcome) -> u64 {
        self.0.get(&(purpose, method, outcome)).copied().unwrap_or(0)
    }

    /// Requests of this method for any purpose.
    pub fn of_method(&self, method: Method) -> u64 {
        self.sum(|(_, m, _)| m == method)
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    fn sum(&self, mut of: impl FnMut((Purpose, Method, Outcome)) -> bool) -> u64 {
        self.0.iter().filter(|(key, _)| of(**key)).map(|(_, count)| count).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    purpose: &'static str,
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    purpose: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransferLabels {
    purpose: &'static str,
    direction: &'static str,
}

/// Clones share the same counts.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    transferred: Family<TransferLabels, Counter>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            requests: Family::default(),
            // 1 ms to 65 s.
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 17))),
            transferred: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(REQUESTS.0, REQUESTS.1, self.requests.clone());
        registry.register_with_unit(DURATION.0, DURATION.1, DURATION.2, self.durations.clone());
        registry.register_with_unit(TRANSFERRED.0, TRANSFERRED.1, TRANSFERRED.2, self.transferred.clone());
    }

    pub(super) fn ended(
        &self,
        purpose: Purpose,
        method: Method,
        outcome: Outcome,
        count: u64,
        took: Duration,
    ) {
        self.requests.get_or_create(&request_labels(purpose, method, outcome)).inc_by(count);
        let labels = DurationLabels { purpose: purpose.as_str(), method: method.as_str() };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn sent(&self, purpose: Purpose, bytes: u64) {
        self.transferred(purpose, "sent", bytes);
    }

    pub(super) fn received(&self, purpose: Purpose, bytes: u64) {
        self.transferred(purpose, "received", bytes);
    }

    fn transferred(&self, purpose: Purpose, direction: &'static str, bytes: u64) {
        let labels = TransferLabels { purpose: purpose.as_str(), direction };
        self.transferred.get_or_create(&labels).inc_by(bytes);
    }

    pub(super) fn counts(&self) -> RequestCounts {
        let mut counts = BTreeMap::new();
        for purpose in Purpose::ALL {
            for method in Method::ALL {
                for outcome in Outcome::ALL {
                    if let Some(count) = self.requests.get(&request_labels(purpose, method, outcome)) {
                        counts.insert((purpose, method, outcome), count.get());
                    }
                }
            }
        }
        RequestCounts(counts)
    }
}

fn request_labels(purpose: Purpose, method: Method, outcome: Outcome) -> RequestLabels {
    RequestLabels { purpose: purpose.as_str(), method: method.as_str(), outcome: outcome.as_str() }
}
