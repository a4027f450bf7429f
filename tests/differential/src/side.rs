//! One of the two brokers, as the driver sees it.

use crate::{
    codec::{decode, encode},
    connection::{Connection, Received},
    schema::{Api, Versions},
    symbols::Symbols,
};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// What stands in a request's header.
pub const CLIENT_ID: &str = "differential";

/// How long an answer is waited for. On a machine that is busy with other things a Kafka that does answer was seen to take more
/// than three seconds; of what it never answers there are few cases.
const PATIENCE: Duration = Duration::from_secs(15);

/// The outcome of a request whose connection was closed.
pub const CLOSED: &str = "the connection was closed";
/// The outcome of a request that was not answered for that long.
pub const SILENCE: &str = "no answer";

/// A request to be sent, in symbols.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its API.
    pub api: &'a Api,
    /// The version that its header says.
    pub version: i16,
    /// Its body.
    pub body: Value,
    /// What becomes of the bytes.
    pub damage: Damage,
}

/// What a request's bytes suffer before they are sent.
#[derive(Clone, Debug, Default)]
pub enum Damage {
    /// Nothing.
    #[default]
    None,
    /// The last bytes are missing.
    Cut(usize),
    /// Zeros follow.
    Padded(usize),
    /// Other bytes stand in place of the body.
    Replaced(Vec<u8>),
}

/// A broker, its connections by name, and its symbols.
pub struct Side {
    address: SocketAddr,
    connections: BTreeMap<String, Connection>,
    correlation: i32,
    /// What it calls the things that both sides have.
    pub symbols: Symbols,
}

impl Side {
    /// The broker at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let mut symbols = Symbols::default();
        symbols.set("port", json!(address.port()));
        Self { address, connections: BTreeMap::new(), correlation: 0, symbols }
    }

    /// Sends a request on the connection `name`, which is opened if need be.
    pub fn send(&mut self, name: &str, request: &Request<'_>) -> Result<()> {
        let body = match &request.damage {
            Damage::Replaced(bytes) => bytes.clone(),
            damage => {
                let body = self.symbols.resolve(&request.body);
                let mut bytes = encode(&request.api.request, request.layout(), &body)?;
                match damage {
                    Damage::Cut(count) => bytes.truncate(bytes.len().saturating_sub(*count)),
                    Damage::Padded(count) => bytes.resize(bytes.len() + count, 0),
                    _ => {}
                }
                bytes
            }
        };
        self.correlation += 1;
        let flexible = request.api.request.flexible.contain(request.version);
        let frame = [
            &request.api.key.to_be_bytes()[..],
            &request.version.to_be_bytes(),
            &self.correlation.to_be_bytes(),
            &(CLIENT_ID.len() as i16).to_be_bytes(),
            CLIENT_ID.as_bytes(),
            if flexible { &[0] } else { &[] },
            &body,
        ]
        .concat();
        self.connection(name)?.send(&frame);
        Ok(())
    }

    fn connection(&mut self, name: &str) -> Result<&mut Connection> {
        if !self.connections.contains_key(name) {
            self.connections.insert(name.to_owned(), Connection::open(self.address)?);
        }
        Ok(self.connections.get_mut(name).expect("it was just put there"))
    }

    /// Waits for the outcome of the request that was sent last on `name`: an answer, or a text that says what happened.
    /// The correlation id must be that of any request before, as requests on other connections may lie between.
    pub fn receive(&mut self, name: &str, request: &Request<'_>) -> Result<Value> {
        let received = self.connection(name)?.receive(PATIENCE)?;
        let outcome = match received {
            Received::Frame(frame) => return Ok(answer(request, &frame, self.correlation)),
            Received::Closed => CLOSED,
            Received::Silence => SILENCE,
        };
        self.connections.remove(name);
        Ok(json!(outcome))
    }

    /// Waits for the outcome of a request that has no answer where all is well: whether the one behind it is answered.
    pub fn receive_nothing(&mut self, name: &str, probe: &Request<'_>) -> Result<Value> {
        match self.receive(name, probe)? {
            answer if answer.is_object() => Ok(json!(SILENCE)),
            outcome => Ok(outcome),
        }
    }

    /// Drops a connection.
    pub fn hang_up(&mut self, name: &str) {
        self.connections.remove(name);
    }
}

impl Request<'_> {
    /// The version whose layout is written: the nearest that there is.
    fn layout(&self) -> i16 {
        let Versions { first, last } = self.api.versions;
        self.version.clamp(first, last)
    }
}

fn answer(request: &Request<'_>, frame: &[u8], newest: i32) -> Value {
    read_answer(request, frame, newest).unwrap_or_else(|error| {
        json!({ "undecodable": format!("{error:#}"), "bytes": hex::encode(&frame[..frame.len().min(200)]) })
    })
}

fn read_answer(request: &Request<'_>, frame: &[u8], newest: i32) -> Result<Value> {
    const API_VERSIONS: i16 = 18;
    let (correlation, mut body) = frame.split_at_checked(4).ok_or(anyhow::anyhow!("no header"))?;
    let correlation = i32::from_be_bytes(correlation.try_into()?);
    ensure!(0 < correlation && correlation <= newest, "correlation id {correlation}");
    let mut version = request.version;
    if request.api.key == API_VERSIONS {
        // Who doesn't know the version answers in that of version 0.
        if !request.api.versions.contain(version) {
            version = 0;
        }
    } else if request.api.response.flexible.contain(version) {
        ensure!(body.first() == Some(&0), "tagged fields in the header");
        body = &body[1..];
    }
    decode(&request.api.response, version, body)
}
