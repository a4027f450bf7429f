//! Requests and bytes, by what was asked for and by the kind of object.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    ops::{Add, AddAssign, Sub},
};

/// An S3 request, as the bill tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// PUT of an object, and the parts and ends of a multipart upload.
    Put,
    /// GET of an object or a range of it.
    Get,
    /// HEAD.
    Head,
    /// LIST of a prefix.
    List,
    /// DELETE of one object or of many.
    Delete,
}

/// What an object is, by its place in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `wal/…`: WAL objects and fences.
    Wal,
    /// A PUT of a WAL object that was put before: a hedge, or a repetition.
    WalAgain,
    /// `seg/…`: flushed segments and recovery manifests.
    Segment,
    /// `meta/…`: the embedded metadata store.
    Metadata,
    /// Everything else: the marker, the start-up check, the bucket itself.
    Other,
}

/// How many requests there were and the bytes in their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that reached the store.
    pub requests: u64,
    /// Bytes sent to the store.
    pub bytes_up: u64,
    /// Bytes that the store sent.
    pub bytes_down: u64,
}

/// Everything counted since the proxy's start. The difference of two is what happened between them.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<(Operation, Kind), Tally>);

/// Latest WAL objects that are remembered, to know a second PUT of one.
const REMEMBERED: usize = 10_000;

/// Tells first PUTs of WAL objects from later ones.
#[derive(Debug, Default)]
pub(super) struct Repetitions {
    paths: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Repetitions {
    /// The kind of this request, given the requests before it.
    pub(super) fn classify(&mut self, operation: Operation, kind: Kind, path: &str) -> Kind {
        if (operation, kind) != (Operation::Put, Kind::Wal) {
            return kind;
        }
        if !self.paths.insert(path.to_owned()) {
            return Kind::WalAgain;
        }
        self.order.push_back(path.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.paths.remove(&oldest);
        }
        kind
    }
}

impl Operation {
    /// What a request asks for.
    pub(super) fn of(method: &hyper::Method, query: Option<&str>) -> Self {
        let query = query.unwrap_or_default();
        match method.as_str() {
            "GET" if query.contains("list-type=") || query.contains("prefix=") => Self::List,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "DELETE" => Self::Delete,
            "POST" if query.split('&').any(|part| part == "delete" || part == "delete=") => Self::Delete,
            _ => Self::Put,
        }
    }

    /// Whether it changes the store.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete)
    }
}

impl Kind {
    /// The kind of what lies at `path` (`/bucket/prefix/…`), or of what a LIST's query asks for.
    pub(super) fn of(path: &str, query: Option<&str>) -> Self {
        let prefix = query.unwrap_or_default().split('&').find_map(|part| part.strip_prefix("prefix="));
        let key = prefix.map_or_else(|| path.to_owned(), |prefix| prefix.replace("%2F", "/"));
        // SlateDB's folder has a `wal` of its own: what comes first counts.
        let known = |part| match part {
            "wal" => Some(Self::Wal),
            "seg" => Some(Self::Segment),
            "meta" => Some(Self::Metadata),
            _ => None,
        };
        key.split('/').find_map(known).unwrap_or(Self::Other)
    }
}

impl Counts {
    pub(super) fn add(&mut self, operation: Operation, kind: Kind, tally: Tally) {
        *self.0.entry((operation, kind)).or_default() += tally;
    }

    /// One cell.
    pub fn of(&self, operation: Operation, kind: Kind) -> Tally {
        self.0.get(&(operation, kind)).copied().unwrap_or_default()
    }

    /// All kinds of one operation.
    pub fn of_operation(&self, operation: Operation) -> Tally {
        self.sum(|(of, _)| *of == operation)
    }

    /// Everything.
    pub fn total(&self) -> Tally {
        self.sum(|_| true)
    }

    /// What the requests cost at S3 Standard in us-east-1, in dollars: PUT and LIST $5, GET and HEAD $0.40 a million.
    /// DELETE is free.
    pub fn dollars(&self) -> f64 {
        let requests = |operation| self.of_operation(operation).requests as f64;
        let writes = requests(Operation::Put) + requests(Operation::List);
        let reads = requests(Operation::Get) + requests(Operation::Head);
        writes * 5e-6 + reads * 0.4e-6
    }

    fn sum(&self, wanted: impl Fn(&(Operation, Kind)) -> bool) -> Tally {
        let tallies = self.0.iter().filter(|(cell, _)| wanted(cell)).map(|(_, tally)| *tally);
        tallies.fold(Tally::default(), Tally::add)
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes_up += other.bytes_up;
        self.bytes_down += other.bytes_down;
    }
}

impl Sub<&Counts> for &Counts {
    type Output = Counts;

    fn sub(self, earlier: &Counts) -> Counts {
        let since = |(cell, tally): (&(Operation, Kind), &Tally)| {
            let before = earlier.0.get(cell).copied().unwrap_or_default();
            let tally = Tally {
                requests: tally.requests - before.requests,
                bytes_up: tally.bytes_up - before.bytes_up,
                bytes_down: tally.bytes_down - before.bytes_down,
            };
            (*cell, tally)
        };
        Counts(self.0.iter().map(since).collect())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for ((operation, kind), tally) in self.0.iter().filter(|(_, tally)| tally.requests > 0) {
            let comma = if std::mem::take(&mut first) { "" } else { ", " };
            write!(f, "{comma}{} {operation:?} {kind:?}", tally.requests)?;
        }
        if first { f.write_str("no requests") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Method;

    #[test]
    fn requests_are_told_apart_as_the_bill_does() {
        assert_eq!(Operation::of(&Method::GET, Some("list-type=2&prefix=wal")), Operation::List);
        assert_eq!(Operation::of(&Method::GET, None), Operation::Get);
        assert_eq!(Operation::of(&Method::POST, Some("delete")), Operation::Delete);
        assert_eq!(Operation::of(&Method::POST, Some("uploads")), Operation::Put);
    }

    #[test]
    fn the_first_known_folder_gives_the_kind() {
        assert_eq!(Kind::of("/bucket/thalweg/wal/3f/0/1/2", None), Kind::Wal);
        assert_eq!(Kind::of("/bucket/meta/wal/0001.sst", None), Kind::Metadata);
        assert_eq!(Kind::of("/bucket/thalweg/thalweg", None), Kind::Other);
        assert_eq!(Kind::of("/bucket", Some("list-type=2&prefix=thalweg%2Fseg%2F00")), Kind::Segment);
    }

    #[test]
    fn a_second_put_of_a_wal_object_is_counted_apart() {
        let mut repetitions = Repetitions::default();
        let mut kind = |path| repetitions.classify(Operation::Put, Kind::Wal, path);
        assert_eq!([kind("wal/1"), kind("wal/2"), kind("wal/1")], [Kind::Wal, Kind::Wal, Kind::WalAgain]);
    }

    #[test]
    fn a_difference_of_counts_is_what_happened_between_them() {
        let mut before = Counts::default();
        before.add(Operation::Put, Kind::Wal, Tally { requests: 2, bytes_up: 10, bytes_down: 0 });
        let mut after = before.clone();
        after.add(Operation::Put, Kind::Wal, Tally { requests: 1, bytes_up: 5, bytes_down: 0 });
        let between = &after - &before;
        assert_eq!(between.of(Operation::Put, Kind::Wal), Tally { requests: 1, bytes_up: 5, bytes_down: 0 });
        assert_eq!(between.total().requests, 1);
    }
}
