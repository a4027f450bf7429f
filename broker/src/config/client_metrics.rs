//! The settings of subscriptions to clients' metrics (KIP-714): which values Kafka takes.

use super::{Config, Values, check};
use regex_syntax::ast::ErrorKind;

/// Why Kafka refuses them: as an invalid request, or as an invalid configuration; each with its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// INVALID_REQUEST.
    Request(String),
    /// INVALID_CONFIG.
    Config(String),
}

/// What of a client can be matched.
const MATCHED: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Checks a subscription's settings.
pub fn check_client_metrics(config: &Config, own: &Values) -> Result<(), Fault> {
    let keys = config.client_metrics_keys();
    if let Some(name) = own.keys().find(|name| !keys.contains_key(name.as_str())) {
        return Err(Fault::Request(format!("Unknown client metrics configuration: {name}")));
    }
    for (name, value) in own {
        if let Some(Err(fault)) = keys.get(name.as_str()).map(|key| check(key, value)) {
            let fault = fault.in_kafkas_words();
            return Err(Fault::Config(format!("Invalid value {value} for configuration {name}: {fault}")));
        }
    }
    if let Some(interval) = own.get("interval.ms")
        && !interval.trim().parse().is_ok_and(|interval: i32| (100..=3_600_000).contains(&interval))
    {
        let message = format!(
            "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        );
        return Err(Fault::Request(message));
    }
    let patterns = own.get("match").into_iter().flat_map(|patterns| patterns.split(','));
    match patterns.map(str::trim).find(|pattern| !pattern.is_empty() && !is_match(pattern)) {
        Some(pattern) => Err(Fault::Config(format!("Illegal client matching pattern: {pattern}"))),
        None => Ok(()),
    }
}

/// `what=regular expression`.
fn is_match(pattern: &str) -> bool {
    let parts: Vec<&str> = pattern.trim_end_matches('=').split('=').collect();
    let [what, expression] = parts[..] else { return false };
    let parsed = regex_syntax::ast::parse::Parser::new().parse(expression.trim());
    // Java's expressions know a few things more.
    let known_to_java = |kind: &ErrorKind| {
        matches!(kind, ErrorKind::UnsupportedLookAround | ErrorKind::UnsupportedBackreference)
    };
    MATCHED.contains(&what.trim()) && parsed.err().is_none_or(|error| known_to_java(error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(name: &str, value: &str) -> Option<Fault> {
        check_client_metrics(&Config::defaults(), &[(name.to_owned(), value.to_owned())].into()).err()
    }

    #[test]
    fn faults_are_told_in_kafkas_words() {
        let request = |text: &str| Some(Fault::Request(text.to_owned()));
        let config = |text: &str| Some(Fault::Config(text.to_owned()));
        let out_of_range =
            "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)";
        assert_eq!(faults("interval.ms", "1"), request(out_of_range));
        let not_a_number = "Invalid value x for configuration interval.ms: Not a number of type INT";
        assert_eq!(faults("interval.ms", "x"), config(not_a_number));
        assert_eq!(faults("nope", "1"), request("Unknown client metrics configuration: nope"));
        for bad in ["foo", "name=x", "client_id=x=y", "client_id=[a"] {
            assert_eq!(faults("match", bad), config(&format!("Illegal client matching pattern: {bad}")));
        }
    }

    #[test]
    fn what_kafka_takes_is_taken() {
        for (name, value) in [
            ("interval.ms", "100"),
            ("metrics", "a.,b."),
            ("match", "client_id = a.*, client_software_version=(?!1).*"),
            ("match", ""),
        ] {
            assert_eq!(faults(name, value), None);
        }
    }
}
