//! Kafka's perf consumer, `org.apache.kafka.tools.ConsumerPerformance`, in a group of its own.

use crate::{Consumed, Run, Subject, perf};
use anyhow::Result;
use thalweg_end_to_end::clients;

const CONSUMER: &str = "org.apache.kafka.tools.ConsumerPerformance";

/// Reads `records` records of [`crate::produce`] from the start of `topic`.
pub fn consume_in_group(subject: &Subject, topic: &str, records: u64) -> Result<Run<Consumed>> {
    let mut command = subject.tools()?.java(CONSUMER);
    command
        .args(["--bootstrap-server", &subject.address().to_string(), "--topic", topic])
        .args(["--num-records", &records.to_string(), "--group", &format!("perf-{topic}")])
        .args(["--timeout", "60000", "--hide-header"]);
    perf::measure(subject, records * perf::RECORD_BYTES, || {
        let finished = clients::run(&mut command, None)?.expect_success()?;
        perf::last_line(&finished.stdout, read_consumed)
    })
}

/// `start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms,
/// fetch.MB.sec, fetch.nMsg.sec`. Its MB are 2^20 bytes; what counts is the time from the first assignment on.
fn read_consumed(line: &str) -> Option<Consumed> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [_, _, _, _, _, _, _, _, fetch_mb_per_s, _] = fields[..] else { return None };
    let mib_per_s: f64 = fetch_mb_per_s.parse().ok()?;
    Some(Consumed { mb_per_s: mib_per_s * f64::from(1 << 20) / 1e6 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consumers_line_is_read_and_no_other() {
        let line = "2026-11-29 02:00:00:000, 2026-11-29 02:00:10:000, 1000.0, 100.0, 1024000, 102400.0, 500, 9500, 105.0, 107789.5";
        let read = read_consumed(line).expect("a summary");
        assert!((read.mb_per_s - 110.1).abs() < 0.1, "{read:?}");
        assert_eq!(read_consumed("WARNING: Exiting before consuming the expected number of messages"), None);
        assert_eq!(read_consumed("a, b, c, d, e, f, g, h, fetch.MB.sec, j"), None);
    }
}
