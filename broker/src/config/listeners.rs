//! `listeners` and what belongs to it.

use super::{Config, ConfigError};
use crate::settings::Endpoint;
use std::collections::{BTreeMap, BTreeSet};

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// The listener's name.
    pub name: String,
    /// Host or address; empty for all interfaces.
    pub host: String,
    /// Port; 0 for any.
    pub port: u16,
}

impl ListenerSpec {
    /// Reads a comma-separated list of `NAME://HOST:PORT`.
    pub fn parse_list(key: &str, text: &str) -> Result<Vec<Self>, ConfigError> {
        let specs = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let specs = specs.map(|item| {
            Self::parse(item).ok_or_else(|| bad(key, &format!("has {item:?}, which is not NAME://HOST:PORT")))
        });
        let specs: Vec<Self> = specs.collect::<Result<_, _>>()?;
        let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        if names.len() < specs.len() {
            return Err(bad(key, "names a listener twice"));
        }
        Ok(specs)
    }

    fn parse(item: &str) -> Option<Self> {
        let (name, rest) = item.split_once("://")?;
        let (host, port) = rest.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = name.to_uppercase();
        Some(Self { name, host, port: port.parse().ok()? }).filter(|spec| !spec.name.is_empty())
    }
}

fn bad(name: &str, fault: &str) -> ConfigError {
    ConfigError::BadValue {
        name: name.to_owned(),
        fault: fault.to_owned(),
        source_name: "listeners".to_owned(),
    }
}

impl Config {
    /// The listeners to bind, each with a security protocol that we speak.
    pub fn listeners(&self) -> Result<Vec<ListenerSpec>, ConfigError> {
        let listeners = ListenerSpec::parse_list("listeners", self.text("listeners"))?;
        if listeners.is_empty() {
            return Err(bad("listeners", "must name at least one"));
        }
        let protocols = self.security_protocols()?;
        for listener in &listeners {
            match protocols.get(&listener.name).map(String::as_str) {
                Some("PLAINTEXT") => {}
                Some(other) => {
                    return Err(bad(
                        "listeners",
                        &format!("has {}, whose protocol {other} is not supported yet", listener.name),
                    ));
                }
                None => {
                    return Err(bad(
                        "listeners",
                        &format!("has {}, which listener.security.protocol.map does not have", listener.name),
                    ));
                }
            }
        }
        Ok(listeners)
    }

    fn security_protocols(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let key = "listener.security.protocol.map";
        let pairs = self.text(key).split(',').map(str::trim).filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| match pair.split_once(':') {
                Some((name, protocol)) => Ok((name.trim().to_uppercase(), protocol.trim().to_uppercase())),
                None => Err(bad(key, &format!("has {pair:?}, which is not NAME:PROTOCOL"))),
            })
            .collect()
    }

    /// `advertised.listeners`, checked: each must be one of the listeners, with a host that clients can use.
    pub fn advertised_listeners(&self) -> Result<Vec<ListenerSpec>, ConfigError> {
        let key = "advertised.listeners";
        let advertised = ListenerSpec::parse_list(key, self.text(key))?;
        let listeners = self.listeners()?;
        for spec in &advertised {
            if !listeners.iter().any(|listener| listener.name == spec.name) {
                return Err(bad(key, &format!("has {}, which is not among the listeners", spec.name)));
            }
            if spec.host.is_empty() || spec.host == "0.0.0.0" || spec.host == "::" {
                return Err(bad(
                    key,
                    "must have a host that clients can reach, not one that stands for all interfaces",
                ));
            }
        }
        Ok(advertised)
    }
}

/// What clients are told for each bound listener: what `advertised` says, else where it is bound. A port 0 stands for the bound one.
pub fn advertised(bound: &[ListenerSpec], advertised: &[ListenerSpec], hostname: &str) -> Vec<Endpoint> {
    let endpoint = |listener: &ListenerSpec| {
        let spec = advertised.iter().find(|spec| spec.name == listener.name).unwrap_or(listener);
        let any = spec.host.is_empty() || spec.host == "0.0.0.0" || spec.host == "::";
        let host = if any { hostname.to_owned() } else { spec.host.clone() };
        let port = if spec.port == 0 { listener.port } else { spec.port };
        Endpoint { listener: listener.name.clone(), host, port }
    };
    bound.iter().map(endpoint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_have_a_name_a_host_and_a_port() {
        let specs = ListenerSpec::parse_list("listeners", "PLAINTEXT://:9092, in://[::1]:0").expect("valid");
        let shown: Vec<_> = specs.iter().map(|s| (s.name.as_str(), s.host.as_str(), s.port)).collect();
        assert_eq!(shown, [("PLAINTEXT", "", 9092), ("IN", "::1", 0)]);
        for wrong in ["PLAINTEXT", "://a:1", "A://b", "A://b:99999", "A://b:1,A://c:2"] {
            assert!(ListenerSpec::parse_list("listeners", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_without_advertisement_is_told_where_it_is_bound() {
        let bound = ListenerSpec::parse_list("listeners", "A://127.0.0.1:4000,B://:5000").expect("valid");
        let told = ListenerSpec::parse_list("advertised.listeners", "A://kafka.example:0").expect("valid");
        let endpoints = advertised(&bound, &told, "here");
        assert_eq!((endpoints[0].host.as_str(), endpoints[0].port), ("kafka.example", 4000));
        assert_eq!((endpoints[1].host.as_str(), endpoints[1].port), ("here", 5000));
    }
}
