//! Latencies like those of S3, from a seed.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::time::Duration;

/// z of a normal distribution's 99th percentile.
const Z_99: f64 = 2.326_347_874;

/// A log-normal distribution, given by two of its percentiles, with a rare fixed outlier.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The median.
    pub median: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// How rarely, and how long, the outlier is: one in so many.
    pub outlier: Option<(u32, Duration)>,
}

/// How long each kind of request takes. `None`: as long as the store behind takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// PUT, POST and DELETE, counted from the arrival of the body's last byte.
    pub write: Option<Profile>,
    /// GET and HEAD (and so LIST).
    pub read: Option<Profile>,
}

impl Latency {
    /// The store's own.
    pub const NONE: Self = Self { write: None, read: None };

    /// Real S3's: PUT 20 ms median, 100 ms at the 99th percentile, one in 10,000 a second; GET 15 and 60 ms.
    pub const S3: Self = Self {
        write: Some(Profile {
            median: Duration::from_millis(20),
            p99: Duration::from_millis(100),
            outlier: Some((10_000, Duration::from_secs(1))),
        }),
        read: Some(Profile {
            median: Duration::from_millis(15),
            p99: Duration::from_millis(60),
            outlier: None,
        }),
    };
}

impl Profile {
    /// Draws one latency.
    pub fn draw(&self, random: &mut impl Rng) -> Duration {
        if let Some((one_in, latency)) = self.outlier
            && random.random_range(0..one_in) == 0
        {
            return latency;
        }
        let sigma = (self.p99.as_secs_f64() / self.median.as_secs_f64()).ln() / Z_99;
        self.median.mul_f64((sigma * standard_normal(random)).exp())
    }

    /// An endless sequence of latencies from `seed`.
    pub fn draws(self, seed: u64) -> impl Iterator<Item = Duration> {
        let mut random = SmallRng::seed_from_u64(seed);
        std::iter::repeat_with(move || self.draw(&mut random))
    }
}

/// Box–Muller.
fn standard_normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value below which `share` of `count` draws lie, in milliseconds.
    fn percentile(profile: Profile, share: f64, count: usize) -> f64 {
        let mut drawn: Vec<_> = profile.draws(7).take(count).collect();
        drawn.sort();
        drawn[(share * count as f64) as usize].as_secs_f64() * 1e3
    }

    #[test]
    fn writes_have_the_percentiles_of_real_s3() {
        let write = Latency::S3.write.unwrap();
        assert!((19.0..21.0).contains(&percentile(write, 0.5, 100_000)));
        assert!((94.0..107.0).contains(&percentile(write, 0.99, 100_000)));
        let seconds =
            write.draws(7).take(1_000_000).filter(|latency| *latency == Duration::from_secs(1)).count();
        assert!((60..140).contains(&seconds), "{seconds} in a million");
    }

    #[test]
    fn reads_have_the_percentiles_of_real_s3() {
        let read = Latency::S3.read.unwrap();
        assert!((14.3..15.7).contains(&percentile(read, 0.5, 100_000)));
        assert!((56.0..64.0).contains(&percentile(read, 0.99, 100_000)));
    }

    #[test]
    fn a_seed_gives_the_same_latencies_again() {
        let write = Latency::S3.write.unwrap();
        assert!(write.draws(3).take(100).eq(write.draws(3).take(100)));
    }
}
