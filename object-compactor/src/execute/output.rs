//! One object that is being written.

use thalweg_metadata::ObjectShape;
use thalweg_segment::{
    Encoded, Index, Kind, Purpose, SegmentId, SegmentWriter, Store, StoreError, Upload, segment_path,
};

/// A segment in the making. In parts once it is larger than one.
pub(crate) struct Output {
    store: Store,
    id: SegmentId,
    pub writer: SegmentWriter,
    upload: Option<Upload>,
    part_bytes: u64,
    sent: u64,
}

/// One that is in the store.
pub(crate) struct Written {
    pub id: SegmentId,
    pub shape: ObjectShape,
    pub index: Index,
}

impl Output {
    pub fn new(store: Store, kind: Kind, id: SegmentId, part_bytes: u64) -> Self {
        let writer = SegmentWriter::new(kind, id.incarnation, id.number);
        Self { store, id, writer, upload: None, part_bytes, sent: 0 }
    }

    /// Sends what makes whole parts.
    pub async fn send_parts(&mut self) -> Result<(), StoreError> {
        while let Some(part) = self.writer.take_part(self.part_bytes) {
            let upload = match &mut self.upload {
                Some(upload) => upload,
                None => {
                    let path = segment_path(self.id);
                    self.upload.insert(self.store.begin_upload(&path, Purpose::Compaction).await?)
                }
            };
            upload.part(part).await?;
            self.sent += self.part_bytes;
        }
        Ok(())
    }

    /// Bytes that were added and not sent.
    pub fn unsent(&self) -> u64 {
        self.writer.data_size().saturating_sub(self.sent)
    }

    /// Adds index and footer and sends the rest.
    pub async fn finish(self) -> Result<Written, StoreError> {
        let Self { store, id, writer, upload, .. } = self;
        let Encoded { payload, size, footer, index } = writer.finish();
        match upload {
            None => store.put(&segment_path(id), payload, Purpose::Compaction).await?,
            Some(mut upload) => {
                if let Err(error) = upload.part(payload).await {
                    give_up(upload).await;
                    return Err(error);
                }
                upload.complete().await?;
            }
        }
        let shape =
            ObjectShape { size, index_position: footer.index_position, index_size: footer.index_size };
        Ok(Written { id, shape, index })
    }

    /// Gives it up.
    pub async fn abort(self) {
        if let Some(upload) = self.upload {
            give_up(upload).await;
        }
    }
}

/// Parts that are left over are swept.
async fn give_up(upload: Upload) {
    let _ = upload.abort().await;
}
