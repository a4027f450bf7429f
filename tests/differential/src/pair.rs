//! Both brokers: each request goes to both, the answers are held against one another.

use crate::{
    compare::{Difference, differences},
    meant::Meant,
    schema::{Api, Schemas, Versions},
    side::{Damage, Request, Side},
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    thread::sleep,
    time::Duration,
};

/// A difference that isn't meant.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The API.
    pub api: String,
    /// Its version.
    pub version: i16,
    /// The case.
    pub case: String,
    /// Where, and what each says.
    pub difference: Difference,
    /// What was asked, in symbols.
    pub request: Value,
}

/// What was compared, and what came of it.
#[derive(Default)]
pub struct Outcome {
    /// Answers compared, by API and version.
    pub compared: BTreeMap<(String, i16), usize>,
    /// Differences that are meant.
    pub meant: usize,
    /// Those that aren't.
    pub findings: Vec<Finding>,
    /// Those that aren't, of APIs that nobody has gone through yet.
    pub not_examined: Vec<Finding>,
    /// Each rule of the list of meant differences that something has met, with all that it was for.
    pub met: Vec<(String, Vec<String>)>,
}

/// Both brokers.
pub struct Pair {
    schemas: Schemas,
    kafka: Side,
    thalweg: Side,
    offered: BTreeMap<i16, Versions>,
    not_offered: BTreeSet<String>,
    meant: Meant,
    outcome: Outcome,
    case: String,
    connection: String,
}

/// What both answered, in their own values.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Kafka's.
    pub kafka: Value,
    /// Thalweg's.
    pub thalweg: Value,
}

/// How often a question that changes nothing is asked before a difference counts: Kafka tells what was changed a moment
/// later than it says that it was.
const ATTEMPTS: u32 = 6;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(80);

impl Pair {
    /// The brokers at these addresses.
    pub fn new(schemas: Schemas, kafka: SocketAddr, thalweg: SocketAddr) -> Result<Self> {
        let mut pair = Self {
            schemas,
            kafka: Side::new(kafka),
            thalweg: Side::new(thalweg),
            offered: BTreeMap::new(),
            not_offered: BTreeSet::new(),
            meant: Meant::load()?,
            outcome: Outcome::default(),
            case: String::new(),
            connection: "main".into(),
        };
        pair.learn_versions()?;
        Ok(pair)
    }

    fn learn_versions(&mut self) -> Result<()> {
        let answers = self.both("ApiVersions", 0, json!({}))?;
        let kafka = versions_of(&answers.kafka)?;
        let thalweg = versions_of(&answers.thalweg)?;
        for (key, theirs) in kafka {
            let Some(api) = self.schemas.by_key(key) else { continue };
            match thalweg.get(&key) {
                Some(ours) => {
                    let first = theirs.first.max(ours.first).max(api.versions.first);
                    self.offered.insert(key, Versions { first, last: theirs.last.min(ours.last) });
                }
                None => drop(self.not_offered.insert(api.name.clone())),
            }
        }
        Ok(())
    }

    /// The APIs that both offer, with the versions that both offer.
    pub fn offered(&self) -> Vec<(Api, Versions)> {
        let known = self.offered.iter();
        known.filter_map(|(key, versions)| Some((self.schemas.by_key(*key)?.clone(), *versions))).collect()
    }

    /// Whether both offer an API.
    pub fn offers(&self, api: &str) -> bool {
        self.schemas.by_name(api).is_ok_and(|api| self.offered.contains_key(&api.key))
    }

    /// The newest version of an API that both offer, or one that is older by `back`, as far as there are any.
    pub fn version(&self, api: &str, back: i16) -> Result<i16> {
        let key = self.schemas.by_name(api)?.key;
        let Versions { first, last } =
            *self.offered.get(&key).with_context(|| format!("{api} is not offered"))?;
        Ok((last - back).max(first))
    }

    /// Kafka's APIs that Thalweg doesn't offer, each with the reason, if there is one.
    pub fn not_offered(&self) -> Vec<(String, Option<String>)> {
        let why = |api: &String| self.meant.why_absent(api).map(str::to_owned);
        self.not_offered.iter().map(|api| (api.clone(), why(api))).collect()
    }

    /// Names the case that comes. It goes over the main connection unless [`Self::on`] says otherwise.
    pub fn begin(&mut self, case: &str) {
        case.clone_into(&mut self.case);
        self.on("main");
    }

    /// What follows goes over the connection `name`.
    pub fn on(&mut self, name: &str) -> &mut Self {
        name.clone_into(&mut self.connection);
        self
    }

    /// Asks both, and compares.
    pub fn ask(&mut self, api: &str, version: i16, body: Value) -> Result<Answers> {
        let api = self.schemas.by_name(api)?.clone();
        self.ask_request(&Request { api: &api, version, body, damage: Damage::None })
    }

    /// Asks both and compares, with a request that may be damaged.
    pub fn ask_request(&mut self, request: &Request<'_>) -> Result<Answers> {
        let attempts = if is_question(&request.api.name) { ATTEMPTS } else { 1 };
        let mut answers = self.send_both(request)?;
        for _ in 1..attempts {
            if self.judge(request, &answers).is_empty() {
                break;
            }
            sleep(BETWEEN_ATTEMPTS);
            answers = self.send_both(request)?;
        }
        self.count(request, &answers);
        Ok(answers)
    }

    /// Sends a request that may be answered much later.
    pub fn send(&mut self, api: &str, version: i16, body: Value) -> Result<()> {
        let api = self.schemas.by_name(api)?.clone();
        let request = Request { api: &api, version, body, damage: Damage::None };
        let connection = self.connection.clone();
        self.kafka.send(&connection, &request)?;
        self.thalweg.send(&connection, &request)
    }

    /// Receives the answers to what [`Self::send`] sent on this connection, and compares.
    pub fn receive(&mut self, api: &str, version: i16) -> Result<Answers> {
        let api = self.schemas.by_name(api)?.clone();
        let request = Request { api: &api, version, body: json!("sent before"), damage: Damage::None };
        let connection = self.connection.clone();
        let answers = Answers {
            kafka: self.kafka.receive(&connection, &request)?,
            thalweg: self.thalweg.receive(&connection, &request)?,
        };
        self.count(&request, &answers);
        Ok(answers)
    }

    /// Asks both without comparing.
    pub fn both(&mut self, api: &str, version: i16, body: Value) -> Result<Answers> {
        let api = self.schemas.by_name(api)?.clone();
        self.send_both(&Request { api: &api, version, body, damage: Damage::None })
    }

    fn send_both(&mut self, request: &Request<'_>) -> Result<Answers> {
        let connection = self.connection.clone();
        self.kafka.send(&connection, request)?;
        self.thalweg.send(&connection, request)?;
        if !expects_nothing(request) {
            return Ok(Answers {
                kafka: self.kafka.receive(&connection, request)?,
                thalweg: self.thalweg.receive(&connection, request)?,
            });
        }
        let api = self.schemas.by_name("ApiVersions")?.clone();
        let probe = Request { api: &api, version: 0, body: json!({}), damage: Damage::None };
        let nothing = |side: &mut Side| {
            side.send(&connection, &probe)?;
            side.receive_nothing(&connection, &probe)
        };
        Ok(Answers { kafka: nothing(&mut self.kafka)?, thalweg: nothing(&mut self.thalweg)? })
    }

    /// Gives what stands at `pointer` in each answer the name `$name`.
    pub fn name(&mut self, name: &str, answers: &Answers, pointer: &str) -> Result<()> {
        self.name_apart(name, answers, pointer, pointer)
    }

    /// The same where it stands at different places.
    pub fn name_apart(&mut self, name: &str, answers: &Answers, kafka: &str, thalweg: &str) -> Result<()> {
        let kafkas = (&mut self.kafka, &answers.kafka, kafka);
        for (side, answer, pointer) in [kafkas, (&mut self.thalweg, &answers.thalweg, thalweg)] {
            let value = answer.pointer(pointer).with_context(|| format!("no {pointer} in {answer}"))?;
            side.symbols.set(name, value.clone());
        }
        Ok(())
    }

    /// Drops a connection to both.
    pub fn hang_up(&mut self, name: &str) {
        self.kafka.hang_up(name);
        self.thalweg.hang_up(name);
    }

    /// What was found, and the rules that nothing has met.
    pub fn finish(mut self) -> (Outcome, Vec<String>) {
        let stale = self.meant.absent().filter(|api| !self.not_offered.contains(*api));
        let stale = stale.map(|api| format!("{api} is said not to be offered")).collect::<Vec<_>>();
        let unmet = [self.meant.unmet(), stale].concat();
        self.outcome.met = self.meant.met();
        (self.outcome, unmet)
    }

    /// The differences that count against us.
    fn judge(&mut self, request: &Request<'_>, answers: &Answers) -> Vec<Difference> {
        let mut found = self.differences(answers);
        found.retain(|difference| {
            !self.meant.allows(&request.api.name, request.version, &self.case, difference)
        });
        found
    }

    fn differences(&self, answers: &Answers) -> Vec<Difference> {
        differences(
            &self.kafka.symbols.normalise(&answers.kafka),
            &self.thalweg.symbols.normalise(&answers.thalweg),
        )
    }

    fn count(&mut self, request: &Request<'_>, answers: &Answers) {
        let (api, version) = (request.api.name.clone(), request.version);
        *self.outcome.compared.entry((api.clone(), version)).or_default() += 1;
        let all = self.differences(answers).len();
        let against = self.judge(request, answers);
        self.outcome.meant += all - against.len();
        for difference in against {
            let (case, request) = (self.case.clone(), request.body.clone());
            let finding = Finding { api: api.clone(), version, case, difference, request };
            match self.meant.is_examined(&api) {
                true => self.outcome.findings.push(finding),
                false => self.outcome.not_examined.push(finding),
            }
        }
    }
}

/// Whether an API changes nothing, so that it may be asked again.
pub fn is_question(api: &str) -> bool {
    const OTHERS: [&str; 7] = [
        "ApiVersions",
        "ConsumerGroupDescribe",
        "Fetch",
        "FindCoordinator",
        "Metadata",
        "OffsetFetch",
        "OffsetForLeaderEpoch",
    ];
    OTHERS.contains(&api) || api.starts_with("Describe") || api.starts_with("List")
}

/// A Produce with acks=0 has no answer.
fn expects_nothing(request: &Request<'_>) -> bool {
    request.api.name == "Produce" && request.body["Acks"] == 0 && matches!(request.damage, Damage::None)
}

fn versions_of(answer: &Value) -> Result<BTreeMap<i16, Versions>> {
    let number = |row: &Value, field: &str| {
        row[field].as_i64().and_then(|number| i16::try_from(number).ok()).with_context(|| field.to_owned())
    };
    let rows = answer["ApiKeys"].as_array().context("ApiVersions")?;
    let rows = rows.iter().map(|row| {
        let versions = Versions { first: number(row, "MinVersion")?, last: number(row, "MaxVersion")? };
        Ok((number(row, "ApiKey")?, versions))
    });
    rows.collect()
}
