use anyhow::Result;
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use thalweg_end_to_end::{kafka::Latencies, s3::Bucket};

/// What the store alone gives.
#[derive(Clone, Debug)]
pub struct RawPut {
    /// Megabytes (10^6) a second.
    pub mb_per_s: f64,
    /// Latencies of single PUTs.
    pub latencies: Latencies,
}

/// Writes `count` objects of `bytes` bytes each, `in_flight` at a time.
pub async fn raw_put(bucket: &Bucket, bytes: usize, count: usize, in_flight: usize) -> Result<RawPut> {
    let body: Bytes = (0..bytes).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>().into();
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let workers: Vec<_> = (0..in_flight)
        .map(|_| tokio::spawn(put_until_done(bucket.clone(), body.clone(), next.clone(), count)))
        .collect();
    let mut latencies = Latencies::default();
    for worker in workers {
        latencies.extend(worker.await??);
    }
    let mb_per_s = (bytes * count) as f64 / 1e6 / started.elapsed().as_secs_f64();
    Ok(RawPut { mb_per_s, latencies })
}

async fn put_until_done(
    bucket: Bucket,
    body: Bytes,
    next: Arc<AtomicUsize>,
    count: usize,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(latencies);
        }
        let started = Instant::now();
        bucket.put(&format!("raw/{number}"), body.clone()).await?;
        latencies.add(started.elapsed());
    }
}
