use super::KafkaTools;
use crate::{kafka, process::Process, wait};
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;

/// Words as they come in.
const WORDS: &str = "words";
/// Their counts: a record for each step of each word.
const COUNTS: &str = "counts";
const PARTITIONS: i32 = 4;
/// How long what was written may take to be counted after the last word.
const PATIENCE: Duration = Duration::from_secs(300);

/// Kafka Streams' word count with `processing.guarantee=exactly_once_v2`, and what writes its words.
pub struct WordCount {
    tools: KafkaTools,
    counter: Process,
    writer: Process,
    words: u64,
    _folder: TempDir,
}

/// How often each word occurs.
type Counts = BTreeMap<String, u64>;

impl WordCount {
    /// Starts both against the broker at `address`; the writer stops after `words` words.
    pub fn start(address: SocketAddr, words: u64, words_per_second: u64) -> Result<Self> {
        for topic in [WORDS, COUNTS] {
            wait::block_on(kafka::create_topic(address, topic, PARTITIONS))?;
        }
        let tools = KafkaTools::new(address)?;
        let folder = TempDir::new()?;
        let start = |arguments: &[&str], log: &str| {
            let mut command = tools.own_program("WordCount.java");
            command.args([arguments[0], &address.to_string()]).args(&arguments[1..]);
            Process::spawn(&mut command, &folder.path().join(log))
        };
        let state = folder.path().join("state");
        let counter = start(&["count", WORDS, COUNTS, text(&state)?], "counter")?;
        let writer = start(&["write", WORDS, &words.to_string(), &words_per_second.to_string()], "writer")?;
        Ok(Self { tools, counter, writer, words, _folder: folder })
    }

    /// Whether the writer still writes. Fails if the counter has ended, which it never does by itself.
    pub fn is_writing(&mut self) -> Result<bool> {
        ensure!(self.counter.is_running(), "Kafka Streams ended\n{}", self.counter.output_tail());
        Ok(self.writer.is_running())
    }

    /// Waits until all words are counted, and compares: each word's count must have gone up by one from record to record, to
    /// the number of times that it was written.
    pub fn check(mut self) -> Result<()> {
        let ended = self.writer.wait_for_exit(PATIENCE)?;
        ensure!(ended.success(), "the writer failed\n{}", self.writer.output_tail());
        let written = written(&self.writer.output())?;
        ensure!(written.values().sum::<u64>() == self.words, "the writer says {written:?}");
        let counted = wait::until("all words are counted", PATIENCE, || {
            self.is_writing()?;
            let counted = steps(&self.tools.consume_committed(COUNTS)?)?;
            Ok((counted.values().sum::<u64>() >= self.words).then_some(counted))
        })?;
        ensure!(counted == written, "counted {counted:?}\nwritten {written:?}");
        Ok(())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary folder has a name in UTF-8")
}

/// The last count of each word. Fails where a word's counts don't follow one another.
fn steps(records: &[String]) -> Result<Counts> {
    let mut counts = Counts::new();
    for record in records {
        let (word, count) = word_and_count(record)?;
        let before = counts.insert(word.to_owned(), count).unwrap_or(0);
        ensure!(count == before + 1, "{word}: {count} behind {before}");
    }
    Ok(counts)
}

/// What the writer printed.
fn written(output: &str) -> Result<Counts> {
    let lines = output.lines().filter(|line| line.starts_with("word-"));
    lines.map(|line| word_and_count(line).map(|(word, count)| (word.to_owned(), count))).collect()
}

fn word_and_count(line: &str) -> Result<(&str, u64)> {
    let (word, count) = line.split_once(' ').with_context(|| format!("a word and its count: {line}"))?;
    Ok((word, count.parse().with_context(|| line.to_owned())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps_of(records: &[&str]) -> Result<Counts> {
        steps(&records.iter().map(|&record| record.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn counts_that_follow_one_another_end_at_the_last() {
        let counts = steps_of(&["a 1", "b 1", "a 2"]).unwrap();
        assert_eq!(counts, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
    }

    #[test]
    fn a_count_that_is_lost_or_doubled_is_an_error() {
        assert!(steps_of(&["a 1", "a 3"]).is_err());
        assert!(steps_of(&["a 1", "a 1"]).is_err());
        assert!(steps_of(&["a 2"]).is_err());
    }
}
