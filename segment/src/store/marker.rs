//! The marker object says whose bucket this is and how it is written, so that nobody takes it for something else.
//!
//! ```text
//! thalweg
//! format-level: 1
//! cluster-id: 4L6g3nShT-eMCtK--X86sw
//! ```

use super::{Purpose, Store, StoreError};
use crate::marker_path;
use bytes::Bytes;

/// How objects are written, as far as an older program must not touch them. Raised where it would do harm.
pub const FORMAT_LEVEL: u32 = 1;

const TITLE: &str = "thalweg";
const LEVEL: &str = "format-level: ";
const CLUSTER: &str = "cluster-id: ";
/// A larger object is none of ours.
const MAX_BYTES: u64 = 4096;
/// Characters of a cluster id. (Kafka's have 22.)
const MAX_ID: usize = 64;

/// Why a bucket must not be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object at the marker's key was not written by Thalweg.
    #[error("{} is not a marker of Thalweg: the bucket or prefix belongs to something else", marker_path())]
    Foreign,
    /// A newer version of Thalweg wrote here.
    #[error(
        "the bucket has format level {found}, but this version knows levels up to {FORMAT_LEVEL}: upgrade"
    )]
    Newer {
        /// Its level.
        found: u32,
    },
    /// A cluster id that can't be stored.
    #[error("{id:?} is no cluster id: 1 to {MAX_ID} letters, digits, - and _")]
    InvalidId {
        /// The candidate.
        id: String,
    },
}

/// Returns the cluster id of the bucket; a new bucket becomes that of `candidate`. Of several brokers that start on a new
/// bucket at a time, all get the same answer.
pub async fn open_marker(store: &Store, candidate: &str) -> Result<String, MarkerError> {
    if !is_cluster_id(candidate) {
        return Err(MarkerError::InvalidId { id: candidate.to_owned() });
    }
    let content = store.repeat(|| read_or_create(store, candidate)).await?;
    decode(&content)
}

/// The cluster id of the bucket; none where it has no marker. Writes nothing.
pub async fn read_marker(store: &Store) -> Result<Option<String>, MarkerError> {
    match read(store).await {
        Ok(content) => decode(&content).map(Some),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn read_or_create(store: &Store, candidate: &str) -> Result<Bytes, StoreError> {
    match read(store).await {
        Err(StoreError::NotFound { .. }) => {}
        read => return read,
    }
    let marker = Bytes::from(encode(candidate));
    match store.create_once(&marker_path(), marker.clone().into(), Purpose::Check).await {
        Ok(()) => Ok(marker),
        Err(StoreError::AlreadyExists { .. }) => read(store).await,
        Err(error) => Err(error),
    }
}

/// At most one byte more than a marker may have.
async fn read(store: &Store) -> Result<Bytes, StoreError> {
    let (content, _) = store.get_suffix(&marker_path(), MAX_BYTES + 1, Purpose::Check).await?;
    Ok(content)
}

fn encode(cluster_id: &str) -> String {
    format!("{TITLE}\n{LEVEL}{FORMAT_LEVEL}\n{CLUSTER}{cluster_id}\n")
}

/// The level comes first, since a newer one may have anything behind it.
fn decode(content: &[u8]) -> Result<String, MarkerError> {
    if content.len() as u64 > MAX_BYTES {
        return Err(MarkerError::Foreign);
    }
    let content = str::from_utf8(content).map_err(|_| MarkerError::Foreign)?;
    let mut lines = content.lines();
    if lines.next() != Some(TITLE) {
        return Err(MarkerError::Foreign);
    }
    let level = lines.next().and_then(|line| line.strip_prefix(LEVEL)).and_then(|level| level.parse().ok());
    match level.ok_or(MarkerError::Foreign)? {
        FORMAT_LEVEL => {}
        0 => return Err(MarkerError::Foreign),
        found => return Err(MarkerError::Newer { found }),
    }
    let id = lines.next().and_then(|line| line.strip_prefix(CLUSTER)).filter(|id| is_cluster_id(id));
    id.map(str::to_owned).ok_or(MarkerError::Foreign)
}

fn is_cluster_id(id: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        assert_eq!(
            decode(encode("4L6g3nShT-eMCtK--X86sw").as_bytes()).expect("ours"),
            "4L6g3nShT-eMCtK--X86sw"
        );
    }

    #[test]
    fn a_newer_level_is_refused_whatever_stands_behind_it() {
        let newer = decode(b"thalweg\nformat-level: 2\n{}");
        assert!(matches!(newer, Err(MarkerError::Newer { found: 2 })));
    }

    #[test]
    fn anything_else_is_foreign() {
        let huge = vec![b'a'; 5000];
        let others: [&[u8]; 7] = [
            b"",
            b"hello",
            b"\xff\xfe",
            b"thalweg\n",
            b"thalweg\nformat-level: 1\ncluster-id: \n",
            b"thalweg\nformat-level: 1\ncluster-id: a b\n",
            &huge,
        ];
        for other in others {
            assert!(matches!(decode(other), Err(MarkerError::Foreign)), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn no_content_makes_decoding_panic(content: Vec<u8>) {
            let _ = decode(&content);
        }
    }
}
