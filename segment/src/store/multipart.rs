//! A multipart upload each step of which is counted, timed and bounded.

use super::{counted::Meter, metrics::Method};
use async_trait::async_trait;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

#[derive(Debug)]
pub(super) struct CountedUpload {
    pub(super) inner: Box<dyn MultipartUpload>,
    pub(super) meter: Meter,
}

#[async_trait]
impl MultipartUpload for CountedUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let bytes = payload.content_length() as u64;
        let part = self.inner.put_part(payload);
        let meter = self.meter.clone();
        Box::pin(async move {
            meter.measure_upload(Method::Multipart, bytes, part).await?;
            meter.metrics.sent(meter.purpose, bytes);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.meter.measure(Method::Multipart, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.meter.measure(Method::Multipart, self.inner.abort()).await
    }
}
