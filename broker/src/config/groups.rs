//! The settings of groups: which values Kafka takes, and what holds for a group.

use super::{Config, Resolved, Values, resolve::check_values};

/// What holds for one group: its own settings, the broker's where it has none, within the broker's bounds (KIP-848, KIP-932,
/// KIP-1071). Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of Kafka's keys, which document them")]
pub struct GroupConfig {
    pub consumer_session_timeout_ms: i32,
    pub consumer_heartbeat_interval_ms: i32,
    pub consumer_assignment_interval_ms: i32,
    pub share_session_timeout_ms: i32,
    pub share_heartbeat_interval_ms: i32,
    pub share_record_lock_duration_ms: i32,
    pub share_delivery_count_limit: i32,
    pub share_partition_max_record_locks: i32,
    pub share_assignment_interval_ms: i32,
    /// `latest`, `earliest`, or `by_duration:` and an ISO 8601 duration.
    pub share_auto_offset_reset: String,
    /// Whether only committed records are delivered.
    pub share_read_committed: bool,
    pub share_renew_acknowledge: bool,
    pub streams_session_timeout_ms: i32,
    pub streams_heartbeat_interval_ms: i32,
    pub streams_assignment_interval_ms: i32,
    pub streams_initial_rebalance_delay_ms: i32,
    pub streams_num_standby_replicas: i32,
}

/// A group's key, and the broker's keys of its least and its greatest value.
type Bounds = (&'static str, Option<&'static str>, Option<&'static str>);

/// In the order in which Kafka checks them.
const BOUNDS: [Bounds; 13] = [
    bounds(
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    bounds(
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    bounds(
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    bounds(
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    bounds(
        "share.session.timeout.ms",
        "group.share.min.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
    bounds(
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    bounds(
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    bounds(
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    bounds(
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    bounds(
        "streams.heartbeat.interval.ms",
        "group.streams.min.heartbeat.interval.ms",
        "group.streams.max.heartbeat.interval.ms",
    ),
    bounds(
        "streams.session.timeout.ms",
        "group.streams.min.session.timeout.ms",
        "group.streams.max.session.timeout.ms",
    ),
    ("streams.num.standby.replicas", None, Some("group.streams.max.standby.replicas")),
    bounds(
        "streams.assignment.interval.ms",
        "group.streams.min.assignment.interval.ms",
        "group.streams.max.assignment.interval.ms",
    ),
];

/// Checked only where the group sets it.
const ASSIGNMENT_INTERVAL: &str = ".assignment.interval.ms";

const fn bounds(key: &'static str, min: &'static str, max: &'static str) -> Bounds {
    (key, Some(min), Some(max))
}

/// Checks a group's own settings as Kafka does: each value, its bounds, and that a session is longer than a heartbeat's
/// interval. Returns the first fault as a sentence.
pub fn check_group(config: &Config, resolved: &Resolved, own: &Values) -> Result<(), String> {
    check_values(config.group_keys(), "group", own)?;
    if let Some(reset) = own.get("share.auto.offset.reset").filter(|reset| !is_offset_reset(reset)) {
        let key = "share.auto.offset.reset";
        return Err(format!(
            "Invalid value {reset} for configuration {key}: Invalid value `{reset}` for configuration {key}. \
             The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        ));
    }
    let value = |key: &str| number(config, resolved, own, key);
    for (key, min, max) in BOUNDS {
        if key.ends_with(ASSIGNMENT_INTERVAL) && !own.contains_key(key) {
            continue;
        }
        if let Some(min) = min.filter(|min| value(key) < resolved.number(config, min)) {
            return Err(format!("{key} must be greater than or equal to {min}"));
        }
        if let Some(max) = max.filter(|max| value(key) > resolved.number(config, max)) {
            return Err(format!("{key} must be less than or equal to {max}"));
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let (session, heartbeat) =
            (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        if value(&session) <= value(&heartbeat) {
            return Err(format!("{session} must be greater than {heartbeat}"));
        }
    }
    Ok(())
}

fn number(config: &Config, resolved: &Resolved, own: &Values, name: &str) -> i64 {
    let key = config.group_keys().get(name).expect("the caller names keys of the table");
    resolved.resource_text(config, own, key).trim().parse().unwrap_or_default()
}

fn is_offset_reset(text: &str) -> bool {
    match text.split_once(':') {
        Some(("by_duration", duration)) => is_positive_duration(duration),
        _ => text == "earliest" || text == "latest",
    }
}

/// `PnDTnHnMn.nS` of ISO 8601, as Java reads it, in any case, and not negative.
fn is_positive_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(parts) = text.strip_prefix('P') else { return false };
    let (days, times) = match parts.split_once('T') {
        Some((days, times)) => (days, Some(times)),
        None => (parts, None),
    };
    let days = units(days, "D");
    let times = times.map_or(Some(0), |times| units(times, "HMS").filter(|units| *units > 0));
    matches!((days, times), (Some(days), Some(times)) if days + times > 0)
}

/// How many numbers with a unit there are, where they are such and their units are some of `allowed`, in order. Seconds may have
/// nine decimals.
fn units(mut text: &str, mut allowed: &str) -> Option<usize> {
    let mut count = 0;
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = (&text[..end], text.get(end..=end)?);
        allowed = &allowed[allowed.find(unit)? + 1..];
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = whole.trim_start_matches('+').parse::<i64>().is_ok_and(|whole| whole >= 0);
        if !fits || !digits(decimals) || decimals.len() > 9 || (number.contains('.') && unit != "S") {
            return None;
        }
        count += 1;
        text = &text[end + 1..];
    }
    Some(count)
}

impl GroupConfig {
    /// What holds for the group whose own settings are `own`. A stored value that is out of bounds (they may have changed since)
    /// counts as the nearest one within.
    pub fn resolve(config: &Config, resolved: &Resolved, own: &Values) -> Self {
        let value = |key: &str| {
            let value = number(config, resolved, own, key);
            let bounds = BOUNDS.iter().find(|(bounded, ..)| own.contains_key(key) && *bounded == key);
            let bound = |name: Option<&'static str>| name.map(|name| resolved.number(config, name));
            let (min, max) = bounds.map_or((None, None), |(_, min, max)| (bound(*min), bound(*max)));
            let value = value.max(min.unwrap_or(i64::MIN)).min(max.unwrap_or(i64::MAX));
            i32::try_from(value).unwrap_or(i32::MAX)
        };
        let text = |name: &str| {
            let key = config.group_keys().get(name).expect("a key of the table");
            resolved.resource_text(config, own, key).into_owned()
        };
        Self {
            consumer_session_timeout_ms: value("consumer.session.timeout.ms"),
            consumer_heartbeat_interval_ms: value("consumer.heartbeat.interval.ms"),
            consumer_assignment_interval_ms: value("consumer.assignment.interval.ms"),
            share_session_timeout_ms: value("share.session.timeout.ms"),
            share_heartbeat_interval_ms: value("share.heartbeat.interval.ms"),
            share_record_lock_duration_ms: value("share.record.lock.duration.ms"),
            share_delivery_count_limit: value("share.delivery.count.limit"),
            share_partition_max_record_locks: value("share.partition.max.record.locks"),
            share_assignment_interval_ms: value("share.assignment.interval.ms"),
            share_auto_offset_reset: text("share.auto.offset.reset"),
            share_read_committed: text("share.isolation.level") == "read_committed",
            share_renew_acknowledge: text("share.renew.acknowledge.enable").eq_ignore_ascii_case("true"),
            streams_session_timeout_ms: value("streams.session.timeout.ms"),
            streams_heartbeat_interval_ms: value("streams.heartbeat.interval.ms"),
            streams_assignment_interval_ms: value("streams.assignment.interval.ms"),
            streams_initial_rebalance_delay_ms: value("streams.initial.rebalance.delay.ms"),
            streams_num_standby_replicas: value("streams.num.standby.replicas"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn own(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn check(pairs: &[(&str, &str)]) -> Result<(), String> {
        check_group(&Config::defaults(), &Resolved::default(), &own(pairs))
    }

    #[test]
    fn faults_are_told_in_kafkas_words() {
        for (key, value, expected) in [
            ("nope", "0", "Unknown group config name: nope"),
            (
                "consumer.heartbeat.interval.ms",
                "x",
                "Invalid value x for configuration consumer.heartbeat.interval.ms: Not a number of type INT",
            ),
            (
                "consumer.heartbeat.interval.ms",
                "1",
                "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "60001",
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                "streams.num.standby.replicas",
                "9",
                "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
            ),
            (
                "share.auto.offset.reset",
                "never",
                "Invalid value never for configuration share.auto.offset.reset: Invalid value `never` for configuration \
                 share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format \
                 'by_duration:<PnDTnHnMn.nS>'.",
            ),
        ] {
            assert_eq!(check(&[(key, value)]), Err(expected.to_owned()));
        }
        assert_eq!(
            check(&[("consumer.heartbeat.interval.ms", "6000"), ("share.renew.acknowledge.enable", "FALSE")]),
            Ok(())
        );
    }

    #[test]
    fn a_session_must_be_longer_than_the_interval_of_heartbeats() {
        let given = [("group.consumer.max.heartbeat.interval.ms".to_owned(), "90000".to_owned())];
        let config = Config::load(vec![(Source::Argument, given.to_vec())]).expect("valid settings");
        let own = own(&[("consumer.heartbeat.interval.ms", "45000")]);
        assert_eq!(
            check_group(&config, &Resolved::default(), &own),
            Err("consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms".to_owned())
        );
    }

    #[test]
    fn durations_are_those_that_java_reads() {
        for good in ["earliest", "latest", "by_duration:PT1H", "by_duration:P1DT2H3M4.5S", "by_duration:p2d"]
        {
            assert!(is_offset_reset(good), "{good}");
        }
        for bad in [
            "by_duration:",
            "by_duration:P",
            "by_duration:PT",
            "by_duration:P1DT",
            "by_duration:1H",
            "by_duration:PT-1H",
            "by_duration:PT1M1H",
            "by_duration:PT1.5H",
            "by_duration:PT\u{e9}S",
            "Latest",
            "none",
        ] {
            assert!(!is_offset_reset(bad), "{bad}");
        }
    }

    #[test]
    fn a_groups_own_value_goes_before_the_brokers_and_stays_within_its_bounds() {
        let given = [
            ("group.consumer.session.timeout.ms".to_owned(), "50000".to_owned()),
            ("group.consumer.max.heartbeat.interval.ms".to_owned(), "7000".to_owned()),
        ];
        let config = Config::load(vec![(Source::Argument, given.to_vec())]).expect("valid settings");
        let own =
            own(&[("consumer.heartbeat.interval.ms", "9000"), ("share.isolation.level", "read_committed")]);
        let group = GroupConfig::resolve(&config, &Resolved::default(), &own);
        assert_eq!(group.consumer_session_timeout_ms, 50_000);
        assert_eq!(group.consumer_heartbeat_interval_ms, 7000);
        assert_eq!(group.share_heartbeat_interval_ms, 5000);
        assert!(group.share_read_committed && group.share_renew_acknowledge);
        assert_eq!(group.share_auto_offset_reset, "latest");
    }
}
