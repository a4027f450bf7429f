use std::{collections::VecDeque, time::Duration};

/// Requests without an answer that a Java producer keeps at most.
const IN_FLIGHT: usize = 5;

/// The rate, in requests a second, of a producer with five requests in flight that are answered in order, each no sooner
/// than its latency after it was sent.
///
/// The broker adds nothing in this model: every request has its own PUT that begins when the request is sent.
pub fn in_order_ceiling(latencies: impl Iterator<Item = Duration>) -> f64 {
    let mut answered: VecDeque<Duration> = VecDeque::new();
    let mut requests = 0_u32;
    for latency in latencies {
        let sent = if answered.len() == IN_FLIGHT { answered.pop_front() } else { None };
        let done = sent.unwrap_or_default() + latency;
        answered.push_back(answered.back().map_or(done, |previous| done.max(*previous)));
        requests += 1;
    }
    let took = answered.back().copied().unwrap_or_default();
    if took.is_zero() { 0.0 } else { f64::from(requests) / took.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_latencies_allow_five_requests_each() {
        let rate = in_order_ceiling(std::iter::repeat_n(Duration::from_millis(10), 1000));
        assert!((rate - 500.0).abs() < 1.0, "{rate}");
    }

    #[test]
    fn a_slow_answer_holds_those_behind_it() {
        let latencies = [100, 10, 10, 10, 10].map(Duration::from_millis);
        assert_eq!(in_order_ceiling(latencies.into_iter()), 50.0);
    }
}
