//! Line 2: real text, through real clients, byte for byte.

use super::Report;
use anyhow::{Result, ensure};
use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{KafkaTools, Kcat},
    kafka,
    servers::{MinIo, Options, Thalweg},
    tools, wait,
};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Topic of what the console producer writes, a record a line.
const LINES: &str = "packages-lines";

pub fn check(report: &mut Report) -> Result<()> {
    let text = Text::new(tools::debian_packages()?)?;
    report.note("Packages, MB", format!("{:.1}", text.input.metadata()?.len() as f64 / 1e6));
    let on_file = Options::new()?.start()?;
    text.write(report, "file", &on_file)?;
    text.read(report, "file", &on_file)?;
    drop(on_file);

    let minio = MinIo::start()?;
    let broker = Options::on_minio(&minio, "round-trip")?.start()?;
    text.write(report, "MinIO", &broker)?;
    text.read(report, "MinIO", &broker)?;
    let broker = broker.start_again_with_empty_disk()?;
    text.read(report, "MinIO, killed, all local files deleted", &broker)
}

/// The text and a folder for what comes back.
struct Text {
    input: PathBuf,
    folder: TempDir,
}

impl Text {
    fn new(input: PathBuf) -> Result<Self> {
        Ok(Self { input, folder: tempfile::tempdir()? })
    }

    fn write(&self, report: &mut Report, place: &str, broker: &Thalweg) -> Result<()> {
        let (kcat, tools) = (Kcat::new(broker.address())?, KafkaTools::new(broker.address())?);
        for codec in CODECS {
            create(broker, &topic(codec))?;
            let written = kcat.produce(&topic(codec), codec, "\n\n", &self.input);
            report.must_succeed(&format!("{place}: kcat -P, {codec}"), written);
        }
        create(broker, LINES)?;
        report.must_succeed(
            &format!("{place}: console-producer"),
            tools.console_producer(LINES, "none", &self.input),
        );
        Ok(())
    }

    fn read(&self, report: &mut Report, place: &str, broker: &Thalweg) -> Result<()> {
        for codec in CODECS {
            self.read_topic(report, place, broker, &topic(codec), "\n\n")?;
        }
        self.read_topic(report, place, broker, LINES, "\n")
    }

    /// Reads `topic` by both clients; each record is followed by `separator`.
    fn read_topic(
        &self,
        report: &mut Report,
        place: &str,
        broker: &Thalweg,
        topic: &str,
        separator: &str,
    ) -> Result<()> {
        let output = self.folder.path().join("output");
        let by_kcat = Kcat::new(broker.address())?.consume(topic, separator, &output);
        report.must_succeed(
            &format!("{place}: kcat -C {topic} gives the same bytes"),
            by_kcat.and_then(|()| expect_same(&self.input, &output)),
        );
        let records = usize::try_from(wait::block_on(kafka::end_offset(broker.address(), topic, 0))?)?;
        let by_console =
            KafkaTools::new(broker.address())?.console_consumer(topic, records, separator, &output);
        report.must_succeed(
            &format!("{place}: console-consumer --partition of {topic} gives the same bytes"),
            by_console.and_then(|()| expect_same(&self.input, &output)),
        );
        Ok(())
    }
}

fn topic(codec: &str) -> String {
    format!("packages-{codec}")
}

fn create(broker: &Thalweg, topic: &str) -> Result<()> {
    wait::block_on(kafka::create_topic(broker.address(), topic, 1))
}

/// Compares without holding either file in memory; says where they differ.
fn expect_same(expected: &Path, found: &Path) -> Result<()> {
    let (mut a, mut b) = (BufReader::new(File::open(expected)?), BufReader::new(File::open(found)?));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut position = 0;
    loop {
        let (read_left, read_right) = (fill(&mut a, &mut left)?, fill(&mut b, &mut right)?);
        let differs = (0..read_left.max(read_right))
            .find(|at| *at >= read_left || *at >= read_right || left[*at] != right[*at]);
        ensure!(differs.is_none(), "the bytes differ from {} on", position + differs.unwrap_or(0));
        if read_left == 0 {
            return Ok(());
        }
        position += read_left;
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let whole = vec![1; 200_000];
        let mut changed = whole.clone();
        changed[150_000] = 2;
        let (whole, changed) = (file("whole", &whole), file("changed", &changed));
        let cut = file("cut", &vec![1; 199_999]);
        assert!(expect_same(&whole, &whole).is_ok());
        assert!(expect_same(&whole, &changed).unwrap_err().to_string().contains("150000"));
        assert!(expect_same(&whole, &cut).is_err() && expect_same(&cut, &whole).is_err());
    }
}
