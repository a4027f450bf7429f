//! The check at start-up: that the store is there, lets us do what we must, and keeps the promise that everything rests on.

use super::{ErrorKind, Purpose, Store, StoreError};
use bytes::Bytes;
use object_store::path::Path;
use std::fmt;
use tokio::{join, time::sleep};

/// What was tried when the check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A conditional creation (`PutObject` with `If-None-Match: *`).
    Create,
    /// A read.
    Get,
    /// A listing.
    List,
    /// A deletion.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "conditional PUT",
            Self::Get => "GET",
            Self::List => "LIST",
            Self::Delete => "DELETE",
        })
    }
}

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A request failed.
    #[error("the object store fails {operation}: {source} ({})", hint(*operation, source))]
    Failed {
        /// Which.
        operation: Operation,
        /// How.
        source: StoreError,
    },
    /// Of two creations of one key, both succeeded, or the content is not the winner's.
    #[error(
        "the object store doesn't honour If-None-Match ({what}): two brokers could acknowledge different records in one place; \
         it needs conditional writes, as S3, MinIO and R2 have"
    )]
    NotConditional {
        /// What was seen.
        what: &'static str,
    },
    /// The object that was just written is missing in the listing.
    #[error("the object store does not list an object that was just written: it needs consistent listings")]
    NotListed,
}

impl CheckError {
    /// What to do about it: a store that can't be reached at the moment may be there later.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed { source, .. } => source.kind(),
            _ => ErrorKind::Rejected,
        }
    }
}

/// Tries, each with a key of its own: one lost answer must not keep a broker from starting.
const TRIES: usize = 5;

/// Creates one random key below `check/` twice at the same time, reads and lists it and deletes it again: five requests in
/// three turns. Keys are removed after a failure too, if they can be.
pub async fn check(store: &Store) -> Result<(), CheckError> {
    let mut paths = Vec::new();
    let checked = check_until_answered(store, &mut paths).await;
    let deleted = store.delete(paths, Purpose::Check).await;
    checked?;
    deleted.map_err(failed(Operation::Delete))
}

/// Checks at a new key, noted in `paths`, whenever the outcome of the last creation is unknown.
async fn check_until_answered(store: &Store, paths: &mut Vec<Path>) -> Result<(), CheckError> {
    let mut pause = store.0.patience.backoff;
    loop {
        let path = Path::from(format!("check/{}", store.0.runtime.random().uuid()));
        paths.push(path.clone());
        match check_at(store, &path).await {
            Err(CheckError::Failed { operation: Operation::Create, source })
                if source.kind() == ErrorKind::Retry && paths.len() < TRIES =>
            {
                sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
}

async fn check_at(store: &Store, path: &Path) -> Result<(), CheckError> {
    let winner = race(store, path).await?;
    let prefix = Path::from("check");
    let (read, listed) =
        join!(store.get(path, Purpose::Check), store.list(&prefix, Some(path), Purpose::Check));
    if read.map_err(failed(Operation::Get))? != winner {
        return Err(CheckError::NotConditional { what: "the loser's content was found" });
    }
    let listed = listed.map_err(failed(Operation::List))?;
    if listed.iter().any(|object| object.location == *path) { Ok(()) } else { Err(CheckError::NotListed) }
}

/// Creates `path` with two contents at the same time, and returns the one that won.
async fn race(store: &Store, path: &Path) -> Result<Bytes, CheckError> {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let create = |content: &Bytes| store.create_once(path, content.clone().into(), Purpose::Check);
    match join!(create(&first), create(&second)) {
        (Ok(()), Ok(())) => Err(CheckError::NotConditional { what: "two creations of one key succeeded" }),
        (Ok(()), Err(StoreError::AlreadyExists { .. })) => Ok(first),
        (Err(StoreError::AlreadyExists { .. }), Ok(())) => Ok(second),
        // S3 may answer "another write is in progress" to either.
        (Err(StoreError::AlreadyExists { .. }), Err(StoreError::AlreadyExists { .. })) => {
            create(&first).await.map_err(failed(Operation::Create))?;
            Ok(first)
        }
        (Err(error), Ok(()) | Err(StoreError::AlreadyExists { .. })) | (_, Err(error)) => {
            Err(failed(Operation::Create)(error))
        }
    }
}

fn failed(operation: Operation) -> impl Fn(StoreError) -> CheckError {
    move |source| CheckError::Failed { operation, source }
}

/// What a person may do about it.
fn hint(operation: Operation, error: &StoreError) -> String {
    if error.is_for_credentials() {
        return "give credentials as for AWS's own tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
            .to_owned();
    }
    let cause = match error {
        StoreError::Unavailable { .. } => return "is the endpoint right, and can it be reached?".to_owned(),
        StoreError::Rejected { source, .. } => source.downcast_ref::<object_store::Error>(),
        _ => None,
    };
    match cause {
        Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) => {
            format!("are the credentials right, and do they permit {}?", permission(operation))
        }
        Some(object_store::Error::NotFound { .. }) => "create the bucket first".to_owned(),
        _ if operation == Operation::Create => {
            "check bucket, region and credentials, and that the store has conditional writes".to_owned()
        }
        _ => format!("check bucket, region, credentials and the permission {}", permission(operation)),
    }
}

fn permission(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "s3:PutObject",
        Operation::Get => "s3:GetObject",
        Operation::List => "s3:ListBucket",
        Operation::Delete => "s3:DeleteObject",
    }
}
