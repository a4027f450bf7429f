use anyhow::Result;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};
use thalweg_end_to_end::s3::Bucket;

/// Megabytes (10^6) a second that the store alone gives: reads the objects of [`crate::raw_put()`], `in_flight` at a time.
pub async fn raw_get(bucket: &Bucket, count: usize, in_flight: usize) -> Result<f64> {
    let (next, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let workers: Vec<_> = (0..in_flight)
        .map(|_| tokio::spawn(get_until_done(bucket.clone(), count, next.clone(), bytes.clone())))
        .collect();
    for worker in workers {
        worker.await??;
    }
    Ok(bytes.load(Ordering::Relaxed) as f64 / 1e6 / started.elapsed().as_secs_f64())
}

async fn get_until_done(
    bucket: Bucket,
    count: usize,
    next: Arc<AtomicUsize>,
    bytes: Arc<AtomicU64>,
) -> Result<()> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        let body = bucket.get(&format!("raw/{number}")).await?;
        bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
    }
}
