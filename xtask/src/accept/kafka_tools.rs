//! Kafka's semantics: its command-line tools, with the same arguments against both brokers.

mod steps;

use super::Report;
use anyhow::{Result, anyhow, bail};
use std::{collections::BTreeSet, fs, path::PathBuf};
use steps::{INPUT, MOVES, PLAN, READS_INPUT, STEPS, numbers_differ};
use tempfile::TempDir;
use thalweg_differential::{MeantOfTools, Spoken};
use thalweg_end_to_end::{
    clients::{Finished, KafkaTools},
    servers::{Kafka, MinIo, Options},
};

pub fn check(report: &mut Report) -> Result<()> {
    let minio = MinIo::start()?;
    let broker = Options::on_minio(&minio, "tools")?.set("group.initial.rebalance.delay.ms", 0).start()?;
    let kafka = Kafka::start(&[])?;
    let folder = TempDir::new()?;
    let file = |name: &str, contents: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, contents)?;
        Ok(path)
    };
    let input = file("input", INPUT)?;
    let files = [("PLAN", file("plan", PLAN)?), ("MOVES", file("moves", MOVES)?)];
    let of_kafka = KafkaTools::new(kafka.address())?;
    let of_thalweg = KafkaTools::new(broker.address())?;
    let mut meant = MeantOfTools::load()?;
    for (class, arguments) in STEPS {
        let with_file = |word: &str| match files.iter().find(|(name, _)| *name == word) {
            Some((_, path)) => path.to_string_lossy().into_owned(),
            None => word.to_owned(),
        };
        let words: Vec<String> = arguments.split_whitespace().map(with_file).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let input = (*class == READS_INPUT).then_some(input.as_path());
        let measures = numbers_differ(class, arguments);
        let said = |tools: &KafkaTools| {
            tools.tool_reading(class, &words, input).map(|said| normal(&said, tools, measures))
        };
        let (_, tool) = class.rsplit_once('.').unwrap_or(("", class));
        let what = format!("{tool} {arguments}");
        let (left, right) = (said(&of_kafka)?, said(&of_thalweg)?);
        match compare(&what, &left, &right, &mut meant) {
            Ok(why) if why.is_empty() => report.must(&what, true),
            Ok(why) => {
                let why: Vec<_> = why.into_iter().collect();
                report.must(&format!("{what} (meant: {})", why.join(" ")), true);
            }
            Err(error) => report.failed(&what, &error),
        }
    }
    let unmet = meant.unmet();
    let result = if unmet.is_empty() { Ok(()) } else { Err(anyhow!("{}", unmet.join("; "))) };
    report.must_succeed("every line of the list of meant differences is met", result);
    Ok(())
}

/// Why what differs is meant to; an error that shows the lines that aren't.
fn compare(
    step: &str,
    kafka: &[String],
    thalweg: &[String],
    meant: &mut MeantOfTools,
) -> Result<BTreeSet<String>> {
    let (mut why, mut others) = (BTreeSet::new(), Vec::new());
    let alone = [(Spoken::OfKafka, only_in(kafka, thalweg)), (Spoken::OfThalweg, only_in(thalweg, kafka))];
    for (spoken, lines) in alone {
        for line in lines {
            match meant.why(step, spoken, line) {
                Some(reason) => _ = why.insert(reason.to_owned()),
                None => others.push(format!("said {spoken} alone: {line}")),
            }
        }
    }
    if others.is_empty() { Ok(why) } else { bail!("{}", others.join("; ")) }
}

/// The lines that one has more often than the other.
fn only_in<'a>(lines: &'a [String], others: &[String]) -> Vec<&'a str> {
    let mut left: Vec<&String> = others.iter().collect();
    let is_alone = |line: &&'a String| match left.iter().position(|other| other == line) {
        Some(place) => {
            left.swap_remove(place);
            false
        }
        None => true,
    };
    lines.iter().filter(is_alone).map(String::as_str).collect()
}

/// What a tool said, without what no two clusters, or two runs, have in common. Kafka's tools list many things in the order of a
/// hash map: so the order of lines is no difference.
fn normal(said: &Finished, tools: &KafkaTools, measures: bool) -> Vec<String> {
    let address = tools.address().to_string();
    let words = |line: &str| {
        let line = line.replace(&address, "ADDRESS").replace(&address.replace(':', " "), "ADDRESS");
        let line = line.split_whitespace().map(normal_word).collect::<Vec<_>>().join(" ");
        if measures { without_numbers(&line) } else { line }
    };
    // A stack's frames show where in the tool, not what of the broker.
    let is_frame =
        |line: &&str| line.trim_start().starts_with("at ") || line.trim_start().starts_with("... ");
    let text = format!("{}\n{}", said.stdout, said.stderr);
    let mut lines: Vec<_> = text.lines().filter(|line| !is_frame(line)).map(words).collect();
    lines.retain(|line| !line.is_empty());
    lines.push(format!("ended {}", if said.success { "well" } else { "badly" }));
    lines
}

/// Ids of 16 bytes in base 64, times, and names that a tool makes up are no two clusters' own.
fn normal_word(word: &str) -> String {
    let bare = word.trim_end_matches([',', '.', ')', ']', ':', '\'']).trim_start_matches(['[', '(', '\'']);
    let is_id = bare.len() == 22
        && bare.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
        && bare.chars().any(char::is_uppercase);
    let of_digits = bare.chars().all(|letter| letter.is_ascii_digit() || "-:,.TZ".contains(letter));
    let is_date = bare.len() >= 10 && bare.starts_with("20") && bare.contains('-');
    let is_time = of_digits && (is_date || bare.matches(':').count() == 2);
    match () {
        () if is_id => word.replace(bare, "ID"),
        () if is_time => word.replace(bare, "TIME"),
        () if bare.starts_with("console-consumer-") => word.replace(bare, "console-consumer-N"),
        () => word.to_owned(),
    }
}

/// Every number in it, with its fraction, as `N`.
fn without_numbers(line: &str) -> String {
    let mut left = String::with_capacity(line.len());
    for letter in line.chars() {
        match letter {
            '0'..='9' if left.ends_with('N') => {}
            '0'..='9' => left.push('N'),
            '.' if left.ends_with('N') => {}
            other => left.push(other),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_are_no_difference() {
        assert_eq!(normal_word("dGhhbHdlZ19iZW5jaG1hcg"), "ID");
        assert_eq!(normal_word("[2026-11-21"), "[TIME");
        assert_eq!(normal_word("10:11:12,123]"), "TIME]");
        assert_eq!(normal_word("2026-11-21T22:01:04.245855127Z"), "TIME");
        assert_eq!(normal_word("console-consumer-123,"), "console-consumer-N,");
        assert_eq!(normal_word("retention.ms=1234567"), "retention.ms=1234567");
        assert_eq!(normal_word("PartitionCount:"), "PartitionCount:");
    }

    #[test]
    fn what_one_says_more_often_is_a_difference_unless_it_is_meant() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let none = "";
        let one = "[[tool]]\nstep = \"S*\"\nthalweg = \"c*\"\nwhy = \"so\"\n";
        let compared = |kafka: &str, thalweg: &str, list: &str| {
            compare("S x", &lines(kafka), &lines(thalweg), &mut MeantOfTools::parse(list).unwrap())
        };
        assert!(compared("a b", "b a", none).unwrap().is_empty());
        assert!(compared("a b", "a b b", none).is_err());
        assert!(compared("a b b", "a b", none).is_err());
        assert!(compared("a b", "a b cc", one).unwrap().contains("so"));
        assert!(compared("a b cc", "a b", one).is_err());
    }

    #[test]
    fn numbers_of_measurements_are_no_difference() {
        assert_eq!(without_numbers("10 records sent, 12.5 records/sec"), "N records sent, N records/sec");
    }
}
