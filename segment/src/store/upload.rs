//! Uploads in parts, for objects that are larger than what should be in memory at a time.
//!
//! Nothing is visible under the key before the upload is completed. One that is neither completed nor aborted leaves its parts
//! in the bucket, unseen, until they are swept.

use super::{Purpose, Store, StoreError};
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload, path::Path};

/// An upload under way. To be ended by [`Upload::complete`] or [`Upload::abort`].
pub struct Upload {
    store: Store,
    purpose: Purpose,
    parts: Box<dyn MultipartUpload>,
    path: Path,
}

impl Store {
    /// Begins an upload in parts of `path`, whose content is the same each time it is written. Beginning is repeated within the
    /// patience; parts are not, but for what the client does by itself (see `part_retries`).
    pub async fn begin_upload(&self, path: &Path, purpose: Purpose) -> Result<Upload, StoreError> {
        let client = self.counted(purpose);
        let parts = self.repeat(|| async {
            let begun = client.put_multipart_opts(path, PutMultipartOptions::default()).await;
            begun.map_err(|error| StoreError::of_overwrite(path, error))
        });
        Ok(Upload { store: self.clone(), purpose, parts: parts.await?, path: path.clone() })
    }
}

impl Upload {
    /// Sends the next part: at least 5 MiB, at most 5 GiB, all of the same size but for the last. Stands in the queue for the
    /// bandwidth as a PUT of the same purpose does.
    pub async fn part(&mut self, payload: PutPayload) -> Result<(), StoreError> {
        let _on_the_way = self.store.outward(self.purpose, payload.content_length() as u64).await;
        let sent = self.parts.put_part(payload).await;
        sent.map_err(|error| StoreError::of_overwrite(&self.path, error))
    }

    /// Makes an object of the parts. After an error it may exist, or come to exist later.
    pub async fn complete(mut self) -> Result<(), StoreError> {
        let completed = self.parts.complete().await;
        completed.map(|_| ()).map_err(|error| StoreError::of_overwrite(&self.path, error))
    }

    /// Gives the parts up.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        self.parts.abort().await.map_err(|error| StoreError::of_overwrite(&self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Method,
        tests::{patience, runtime},
    };
    use bytes::Bytes;
    use object_store::memory::InMemory;
    use std::{sync::Arc, time::Duration};
    use tokio::time::Instant;

    /// A store that meets nothing.
    fn store_in_memory() -> Store {
        Store::new(Arc::new(InMemory::new()), runtime(), patience())
    }

    #[tokio::test]
    async fn parts_become_one_object_when_the_upload_is_completed() {
        let store = store_in_memory();
        let path = Path::from("a");
        let mut upload = store.begin_upload(&path, Purpose::Compaction).await.expect("begun");
        upload.part(Bytes::from("one").into()).await.expect("sent");
        upload.part(Bytes::from("two").into()).await.expect("sent");
        let nothing_yet = store.get(&path, Purpose::Check).await;
        assert!(matches!(nothing_yet, Err(StoreError::NotFound { .. })), "{nothing_yet:?}");
        upload.complete().await.expect("completed");
        assert_eq!(store.get(&path, Purpose::Check).await.expect("there"), "onetwo");
        assert_eq!(store.requests().of(Purpose::Compaction, Method::Multipart), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_a_rewrite_get_what_others_leave_of_the_bandwidth() {
        let rate = 1 << 20;
        let store = Store::with_bandwidth(Arc::new(InMemory::new()), runtime(), patience(), Some(rate));
        let mut upload = store.begin_upload(&Path::from("a"), Purpose::Compaction).await.expect("begun");
        let began = Instant::now();
        for _ in 0..4 {
            upload.part(Bytes::from(vec![0; 1 << 20]).into()).await.expect("sent");
        }
        upload.complete().await.expect("completed");
        let took = began.elapsed();
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test]
    async fn an_aborted_upload_leaves_nothing() {
        let store = store_in_memory();
        let path = Path::from("a");
        let mut upload = store.begin_upload(&path, Purpose::Compaction).await.expect("begun");
        upload.part(Bytes::from("one").into()).await.expect("sent");
        upload.abort().await.expect("aborted");
        assert!(matches!(store.get(&path, Purpose::Check).await, Err(StoreError::NotFound { .. })));
    }
}
