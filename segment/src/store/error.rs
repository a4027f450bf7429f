//! Errors of the object store, told apart by what a caller can do about them.
//!
//! The client reports most failures of the HTTP exchange as `Error::Generic`, with a cause of a type that it keeps to itself
//! but whose text names the status. [`Outcome::of`] is the one place that knows so; its tests run the real S3 client against
//! scripted answers, so that a change of the wording is noticed.

use object_store::{Error, path::Path};
use std::{error::Error as StdError, io, ops::Range};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{path} does not exist")]
    NotFound {
        /// Its key.
        path: Path,
    },
    /// A conditional PUT lost, or met another that is in progress (S3's 412 and 409).
    #[error("{path} already exists, or is being created")]
    AlreadyExists {
        /// Its key.
        path: Path,
    },
    /// Throttled, 5xx, timed out, connection lost. A write may or may not have happened.
    #[error("{path}: {}", one_line(source.as_ref()))]
    Unavailable {
        /// Its key.
        path: Path,
        /// What the client says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Repeating will not help: no permission, no such bucket, malformed request.
    #[error("{path}: {}", one_line(source.as_ref()))]
    Rejected {
        /// Its key.
        path: Path,
        /// What the client says.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// What a caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later.
    Retry,
    /// Nothing is there.
    NotFound,
    /// Somebody else was first.
    Conflict,
    /// A person must look.
    Rejected,
}

impl StoreError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::Conflict,
            Self::Unavailable { .. } => ErrorKind::Retry,
            Self::Rejected { .. } => ErrorKind::Rejected,
        }
    }

    /// There are no credentials, or not at the moment.
    pub(super) fn is_for_credentials(&self) -> bool {
        let (Self::Unavailable { source, .. } | Self::Rejected { source, .. }) = self else { return false };
        let fault = cause::<Fault>(source.as_ref());
        matches!(fault, Some(Fault::NoCredentials(_) | Fault::CredentialsUnavailable(_)))
    }

    /// The failure of a read, a listing or a deletion of `path`.
    pub(super) fn of_read(path: &Path, error: Error) -> Self {
        let path = path.clone();
        match Outcome::of(&error) {
            Outcome::NotFound => Self::NotFound { path },
            Outcome::Conflict => Self::AlreadyExists { path },
            Outcome::Rejected => Self::Rejected { path, source: error.into() },
            _ => Self::Unavailable { path, source: error.into() },
        }
    }

    /// The failure of a conditional creation of `path`. Nothing can be missing for it, so that answer is a passing one.
    pub(super) fn of_create(path: &Path, error: Error) -> Self {
        match Outcome::of(&error) {
            Outcome::NotFound => Self::Unavailable { path: path.clone(), source: error.into() },
            _ => Self::of_read(path, error),
        }
    }

    /// The failure of an unconditional write of `path`, which cannot lose: a conflict (S3's 409) is a passing one too.
    pub(super) fn of_overwrite(path: &Path, error: Error) -> Self {
        match Outcome::of(&error) {
            Outcome::Conflict => Self::Unavailable { path: path.clone(), source: error.into() },
            _ => Self::of_create(path, error),
        }
    }
}

/// How a request ended: a label of the request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// As asked.
    Ok,
    /// A condition did not hold, or met another write in progress.
    Conflict,
    /// There is no such object.
    NotFound,
    /// The store wants fewer requests (429, 503).
    Throttled,
    /// 5xx or a broken connection.
    Unavailable,
    /// No permission, no such bucket, malformed request.
    Rejected,
    /// No answer in time.
    Timeout,
    /// The caller stopped waiting.
    Cancelled,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Conflict,
        Self::NotFound,
        Self::Throttled,
        Self::Unavailable,
        Self::Rejected,
        Self::Timeout,
        Self::Cancelled,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }

    /// Tells failures apart.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::NotFound { source, .. } if says(source.as_ref(), "NoSuchBucket") => Self::Rejected,
            Error::NotFound { .. } => Self::NotFound,
            Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
                Self::Conflict
            }
            Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. }
            | Error::UnknownConfigurationKey { .. } => Self::Rejected,
            Error::Generic { source, .. } => Self::of_generic(source.as_ref()),
            _ => Self::Unavailable,
        }
    }

    fn of_generic(error: &(dyn StdError + 'static)) -> Self {
        if let Some(fault) = cause::<Fault>(error) {
            return fault.outcome();
        }
        if let Some(status) = status(error) {
            return Self::of_status(status, error);
        }
        if let Some(error) = cause::<io::Error>(error) {
            return Self::of_io(error.kind());
        }
        if REFUSALS.iter().any(|refusal| says(error, refusal)) { Self::Rejected } else { Self::Unavailable }
    }

    fn of_status(status: u16, error: &(dyn StdError + 'static)) -> Self {
        match status {
            429 | 503 => Self::Throttled,
            408 => Self::Unavailable,
            // S3 reports a stalled upload and a token that is about to be renewed as bad requests.
            400 if says(error, "RequestTimeout") || says(error, "ExpiredToken") => Self::Unavailable,
            300..=499 | 501 => Self::Rejected,
            _ => Self::Unavailable,
        }
    }

    fn of_io(kind: io::ErrorKind) -> Self {
        use io::ErrorKind::*;
        match kind {
            PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory | InvalidFilename
            | InvalidInput | Unsupported => Self::Rejected,
            TimedOut => Self::Timeout,
            _ => Self::Unavailable,
        }
    }
}

/// What the client says without a status or a cause of a known type, and repeating can't mend: a range outside the object, a
/// single refusal within a bulk deletion, a bucket of another region.
const REFUSALS: [&str; 4] = [
    "Wanted range starting at",
    "(code: AccessDenied)",
    "Received redirect without LOCATION",
    "Unable to convert URL",
];

/// The HTTP status that `error` or one of its causes names.
fn status(error: &(dyn StdError + 'static)) -> Option<u16> {
    const MARK: &str = "returned non-2xx status code: ";
    causes(error).find_map(|error| {
        let text = error.to_string();
        let at = text.find(MARK)? + MARK.len();
        text.get(at..at + 3)?.parse().ok()
    })
}

/// The message without line breaks, and cut off: it may hold all that the store has answered.
fn one_line(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    const MAX_CHARS: usize = 1000;
    let text = error.to_string();
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_CHARS).collect()
}

/// How stores answer a request for the last bytes of an object of none: S3 with 416, MinIO with the range "bytes 0--1/0", others
/// with the whole of it.
pub(super) fn may_be_of_empty_object(error: &Error) -> bool {
    let Error::Generic { source, .. } = error else { return false };
    status(source.as_ref()) == Some(416)
        || says(source.as_ref(), "CONTENT_RANGE header")
        || says(source.as_ref(), "non-partial response")
}

fn says(error: &(dyn StdError + 'static), text: &str) -> bool {
    causes(error).any(|error| error.to_string().contains(text))
}

/// The first of `error` and its causes that has the type `T`.
fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// `error` itself, and what it was caused by.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    })
}

/// Failures that are found on our side of the client.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no answer within the time for one attempt")]
    TimedOut,
    #[error("bytes {asked:?} were asked for, but the object has {size}")]
    BeyondEnd { asked: Range<u64>, size: u64 },
    #[error("the answer ended after {got} of {expected} bytes")]
    Truncated { expected: u64, got: u64 },
    #[error("no credentials: {0}")]
    NoCredentials(String),
    #[error("credentials can't be loaded at the moment: {0}")]
    CredentialsUnavailable(String),
}

impl Fault {
    fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut => Outcome::Timeout,
            Self::BeyondEnd { .. } | Self::NoCredentials(_) => Outcome::Rejected,
            Self::Truncated { .. } | Self::CredentialsUnavailable(_) => Outcome::Unavailable,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Generic { store: "object store", source: Box::new(fault) }
    }
}
