//! The suite that every object store is put to, on a real S3 implementation.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use object_store::{
    RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut},
};
use std::sync::Arc;
use thalweg_end_to_end::servers::{ACCESS_KEY, MinIo, REGION, SECRET_KEY};
use thalweg_segment::conformance::check_store;

mod on_minio {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn minio_behaves_as_thalweg_needs_it() {
        let minio = MinIo::start().unwrap();
        minio.bucket("conformance").unwrap();
        let store = AmazonS3Builder::new()
            .with_endpoint(minio.endpoint())
            .with_allow_http(true)
            .with_virtual_hosted_style_request(false)
            .with_bucket_name("conformance")
            .with_region(REGION)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .build()
            .unwrap();
        check_store(Arc::new(store)).await;
    }
}
