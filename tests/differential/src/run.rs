//! Starts both brokers, asks them everything, and sums up.

use crate::{
    compare::shown,
    generate::Generator,
    pair::{Finding, Pair, is_question},
    schema::{Api, Schemas, Versions},
    side::{Damage, Request},
    stories,
    world::{World, make_first_group, wake_coordinators},
};
use anyhow::Result as Anyhow;
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};
use thalweg_end_to_end::servers::{Kafka, Options};

/// What is to be asked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Generated cases for each version of each API.
    pub cases: usize,
    /// Where chance begins.
    pub seed: u64,
    /// Only this API, if one is named.
    pub api: Option<String>,
    /// Whether the stories are told; only those whose name has this text in it.
    pub stories: Option<String>,
    /// How many of the older versions are told the stories too: all by default.
    pub versions: i16,
    /// Generated cases only in the first and the last version of each API.
    pub outer: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Result {
    /// APIs that both offer and that were asked.
    pub apis: usize,
    /// Their versions, all together.
    pub versions: usize,
    /// Answers that were compared.
    pub cases: usize,
    /// Generated cases of the API version that had the fewest.
    pub fewest_cases: usize,
    /// Differences that are meant.
    pub meant: usize,
    /// Those that aren't.
    pub findings: Vec<Finding>,
    /// The same of APIs whose differences nobody has gone through yet.
    pub not_examined: Vec<Finding>,
    /// Each line of the list of meant differences that something has met, with all that it was for.
    pub met: Vec<(String, Vec<String>)>,
    /// Those that nothing has met.
    pub unmet: Vec<String>,
    /// Kafka's APIs that Thalweg doesn't offer, each with the reason.
    pub not_offered: Vec<(String, Option<String>)>,
}

/// Settings of both: what Kafka would choose for itself, but for what would take minutes.
const SETTINGS: [(&str, &str); 7] = [
    ("offsets.topic.num.partitions", "5"),
    ("transaction.state.log.num.partitions", "5"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.consumer.heartbeat.interval.ms", "5000"),
    // Members stay, however long the rest takes, and assignments follow one another without a pause.
    ("group.consumer.session.timeout.ms", "1800000"),
    ("group.consumer.max.session.timeout.ms", "1800000"),
    ("group.consumer.assignment.interval.ms", "0"),
];

/// Settings of Kafka alone: it makes assignments in the heartbeat that asks for them, as Thalweg does.
const OF_KAFKA: [(&str, &str); 1] = [("group.consumer.assignor.offload.enable", "false")];

/// What a single Kafka needs, and is started with anyway.
const OF_A_SINGLE_KAFKA: [(&str, &str); 4] = [
    ("node.id", "1"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
];

/// Starts both brokers, and asks them.
pub fn run(plan: &Plan) -> Anyhow<Result> {
    let kafka = Kafka::start(&[&SETTINGS[..], &OF_KAFKA].concat())?;
    let mut thalweg = Options::new()?.set("object.store.url", "memory:");
    for (name, value) in SETTINGS.into_iter().chain(OF_A_SINGLE_KAFKA) {
        thalweg = thalweg.set(name, value);
    }
    let mut thalweg = thalweg.start()?;
    let mut pair = Pair::new(Schemas::fetch()?, kafka.address(), thalweg.address())?;
    wake_coordinators(&mut pair)?;
    make_first_group(&mut pair)?;
    await_producer_ids(&mut pair)?;
    let cluster = pair.both("DescribeCluster", 0, json!({}))?;
    pair.name("cluster", &cluster, "/ClusterId")?;
    ask_generated(&mut pair, plan)?;
    if let Some(filter) = &plan.stories {
        stories::tell(&mut pair, filter, plan.versions)?;
    }
    anyhow::ensure!(thalweg.is_running(), "Thalweg has ended:\n{}", thalweg.process().output_tail());
    Ok(sum_up(pair))
}

/// Waits until both give producer ids: Kafka fetches its first block of them when it is first asked.
fn await_producer_ids(pair: &mut Pair) -> Anyhow<()> {
    for _ in 0..200 {
        let body = json!({ "TransactionalId": null, "TransactionTimeoutMs": 60_000 });
        let answers = pair.both("InitProducerId", 4, body)?;
        if answers.kafka["ErrorCode"] == 0 && answers.thalweg["ErrorCode"] == 0 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    anyhow::bail!("no producer ids")
}

fn ask_generated(pair: &mut Pair, plan: &Plan) -> Anyhow<()> {
    let asked = |api: &Api| plan.api.as_ref().is_none_or(|name| *name == api.name);
    let offered: Vec<_> = pair.offered().into_iter().filter(|(api, _)| asked(api)).collect();
    let versions_of = |versions: &Versions| {
        let all = versions.first..=versions.last;
        let (outer, ends) = (plan.outer, [versions.first, versions.last]);
        all.filter(move |version| !outer || ends.contains(version))
    };
    let (questions, changes): (Vec<_>, Vec<_>) =
        offered.into_iter().partition(|(api, _)| is_question(&api.name));
    let mut worlds = 0;
    let shared = World::make(pair, worlds)?;
    shared.make_groups(pair)?;
    for (api, versions) in &questions {
        for version in versions_of(versions) {
            for case in 0..plan.cases {
                ask_case(pair, plan, api, version, case, &shared)?;
            }
        }
    }
    for (api, versions) in &changes {
        for version in versions_of(versions) {
            for case in 0..plan.cases {
                worlds += 1;
                let world = World::make(pair, worlds)?;
                if needs_groups(&api.name) {
                    world.make_groups(pair)?;
                }
                ask_case(pair, plan, api, version, case, &world)?;
            }
        }
    }
    for (api, versions) in questions.iter().chain(&changes) {
        ask_damaged(pair, api, *versions, &shared)?;
    }
    Ok(())
}

fn needs_groups(api: &str) -> bool {
    const OTHERS: [&str; 3] = ["Heartbeat", "OffsetCommit", "OffsetDelete"];
    api.contains("Group") || OTHERS.contains(&api) || api.contains("Txn")
}

/// The first case is right in all fields, later ones are bolder and bolder.
fn ask_case(pair: &mut Pair, plan: &Plan, api: &Api, version: i16, case: usize, world: &World) -> Anyhow<()> {
    const STEP: f64 = 0.02;
    let seed = plan.seed ^ (u64::from(api.key as u16) << 32 | u64::from(version as u16) << 16 | case as u64);
    let mut random = SmallRng::seed_from_u64(seed);
    let boldness = if case == 0 { 0.0 } else { (0.08 + STEP * case as f64).min(0.5) };
    let body = Generator { api, version, world, boldness, random: &mut random }.request();
    pair.begin(&format!("generated {case}"));
    pair.ask_request(&Request { api, version, body, damage: Damage::None })?;
    Ok(())
}

/// Requests that are no requests, in the first and last version, and in versions that don't exist.
fn ask_damaged(pair: &mut Pair, api: &Api, versions: Versions, world: &World) -> Anyhow<()> {
    let body = |version: i16| {
        let random = &mut SmallRng::seed_from_u64(0);
        Generator { api, version, world, boldness: 0.0, random }.request()
    };
    let damages = [
        ("cut", Damage::Cut(1)),
        ("without a body", Damage::Replaced(Vec::new())),
        ("padded", Damage::Padded(3)),
        ("of the highest bytes", Damage::Replaced(vec![0xff; 40])),
        ("of giant counts", Damage::Replaced([0x7f, 0xff, 0xff, 0xff].repeat(10))),
    ];
    for version in [versions.first, versions.last] {
        for (name, damage) in &damages {
            pair.begin(&format!("damaged: {name}"));
            let damage = damage.clone();
            pair.ask_request(&Request { api, version, body: body(version), damage })?;
        }
    }
    for version in [versions.first - 1, versions.last + 1, i16::MAX, -1] {
        pair.begin("a version that doesn't exist");
        let body = body(version.clamp(versions.first, versions.last));
        pair.ask_request(&Request { api, version, body, damage: Damage::None })?;
    }
    Ok(())
}

fn sum_up(pair: Pair) -> Result {
    let (offered, not_offered) = (pair.offered(), pair.not_offered());
    let (outcome, unmet) = pair.finish();
    let asked = |api: &String, version: i16| {
        offered.iter().any(|(own, versions)| own.name == *api && versions.contain(version))
    };
    let compared: Vec<_> =
        outcome.compared.iter().filter(|((api, version), _)| asked(api, *version)).collect();
    Result {
        apis: compared.iter().map(|((api, _), _)| api).collect::<BTreeSet<_>>().len(),
        versions: compared.len(),
        cases: outcome.compared.values().sum(),
        fewest_cases: compared.iter().map(|(_, count)| **count).min().unwrap_or(0),
        meant: outcome.meant,
        findings: outcome.findings,
        not_examined: outcome.not_examined,
        met: outcome.met,
        unmet,
        not_offered,
    }
}

impl fmt::Display for Result {
    /// The differences that are not meant, those of the same kind together.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<(String, String, String), Vec<&Finding>> = BTreeMap::new();
        for finding in self.findings.iter().chain(&self.not_examined) {
            let says = format!(
                "Kafka {}, Thalweg {}",
                brief(&finding.difference.kafka),
                brief(&finding.difference.thalweg)
            );
            kinds.entry((finding.api.clone(), finding.difference.shape(), says)).or_default().push(finding);
        }
        for ((api, shape, says), findings) in kinds {
            let versions: BTreeSet<_> = findings.iter().map(|finding| finding.version).collect();
            let cases: BTreeSet<_> = findings.iter().map(|finding| &*finding.case).collect();
            let one = findings[0];
            writeln!(f, "{api} {versions:?} {shape}: {says} ({} times)", findings.len())?;
            writeln!(f, "    cases: {}", cut(&cases.into_iter().collect::<Vec<_>>().join(", ")))?;
            writeln!(
                f,
                "    e.g. {} {}: {}",
                one.version,
                one.difference.path,
                cut(&one.request.to_string())
            )?;
        }
        for (api, _) in self.not_offered.iter().filter(|(_, why)| why.is_none()) {
            writeln!(f, "{api} is not offered, without a reason in meant.toml")?;
        }
        for rule in &self.unmet {
            writeln!(f, "nothing meets a rule of meant.toml: {rule}")?;
        }
        Ok(())
    }
}

/// A value in a few words: the same ones for things of a kind.
fn brief(value: &Option<Value>) -> String {
    let longest =
        if value.as_ref().is_some_and(|value| value.is_object() || value.is_array()) { 60 } else { 200 };
    cut_at(&shown(value), longest)
}

/// A text for one line.
fn cut(text: &str) -> String {
    cut_at(text, 400)
}

fn cut_at(text: &str, longest: usize) -> String {
    let mut out: String = text.chars().take(longest).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

impl Plan {
    /// Everything: what the acceptance command runs.
    pub fn whole() -> Self {
        let stories = Some(String::new());
        Self { cases: 24, seed: 1, api: None, stories, versions: i16::MAX, outer: false }
    }

    /// A part that takes half a minute.
    pub fn short() -> Self {
        Self { cases: 2, versions: 0, outer: true, ..Self::whole() }
    }
}
