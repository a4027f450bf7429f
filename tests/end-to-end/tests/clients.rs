//! Clients as people use them, on both kinds of store.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of real processes, in real time")]

use std::{fs, path::PathBuf};
use tempfile::TempDir;
use thalweg_end_to_end::{
    clients::{KafkaTools, Kcat},
    servers::{MinIo, Options, Thalweg},
};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const LINES: usize = 20_000;

/// A file of lines: some long, none equal to its neighbour, and every hundredth as given.
fn lines(folder: &TempDir, hundredth: &str) -> PathBuf {
    let path = folder.path().join("input");
    let line = |number: usize| match number % 100 {
        0 => format!("{hundredth}\n"),
        1 => format!("{number}:{}\n", "long ".repeat(2000)),
        _ => format!("line {number} ünïcode\n"),
    };
    fs::write(&path, (0..LINES).map(line).collect::<String>()).unwrap();
    path
}

fn kcat_round_trips_every_codec(broker: &Thalweg) {
    let folder = tempfile::tempdir().unwrap();
    // kcat leaves empty lines out when it produces.
    let (input, output) = (lines(&folder, "not empty"), folder.path().join("output"));
    let kcat = Kcat::new(broker.address()).unwrap();
    let listed = kcat.run(&["-L"]).unwrap();
    assert!(listed.success, "{}", listed.stderr);
    for codec in CODECS {
        let topic = format!("lines-{codec}");
        kcat.produce(&topic, codec, "\n", &input).unwrap();
        kcat.consume(&topic, "\n", &output).unwrap();
        assert!(fs::read(&output).unwrap() == fs::read(&input).unwrap(), "{codec}: the bytes differ");
    }
}

fn console_clients_round_trip(broker: &Thalweg) {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (lines(&folder, ""), folder.path().join("output"));
    let tools = KafkaTools::new(broker.address()).unwrap();
    tools.topics(&["--create", "--topic", "console", "--partitions", "1"]).unwrap().expect_success().unwrap();
    tools.console_producer("console", "lz4", &input).unwrap();
    tools.console_consumer("console", LINES, "\n", &output).unwrap();
    assert!(fs::read(&output).unwrap() == fs::read(&input).unwrap(), "the bytes differ");
}

fn admin_tools_work(broker: &Thalweg) {
    let folder = tempfile::tempdir().unwrap();
    let input = lines(&folder, "");
    let tools = KafkaTools::new(broker.address()).unwrap();
    let ok = |finished: anyhow::Result<thalweg_end_to_end::clients::Finished>| {
        finished.unwrap().expect_success().unwrap().stdout
    };
    ok(tools.topics(&[
        "--create",
        "--topic",
        "admin",
        "--partitions",
        "1",
        "--config",
        "retention.ms=1234567",
    ]));
    let described = ok(tools.topics(&["--describe", "--topic", "admin"]));
    assert!(
        described.contains("PartitionCount: 1") && described.contains("retention.ms=1234567"),
        "{described}"
    );
    ok(tools.topics(&["--alter", "--topic", "admin", "--partitions", "3"]));
    assert!(ok(tools.topics(&["--describe", "--topic", "admin"])).contains("PartitionCount: 3"));

    let topic = ["--entity-type", "topics", "--entity-name", "admin"];
    let with = |arguments: &[&'static str]| [&topic[..], arguments].concat();
    ok(tools.configs(&with(&["--alter", "--add-config", "max.message.bytes=54321"])));
    assert!(ok(tools.configs(&with(&["--describe"]))).contains("max.message.bytes=54321"));
    ok(tools.configs(&with(&["--alter", "--delete-config", "max.message.bytes"])));
    assert!(!ok(tools.configs(&with(&["--describe"]))).contains("54321"));

    ok(tools.topics(&["--create", "--topic", "offsets", "--partitions", "1"]));
    tools.console_producer("offsets", "none", &input).unwrap();
    let offset_at = |time| ok(tools.get_offsets(&["--topic", "offsets", "--time", time])).trim().to_owned();
    assert_eq!(offset_at("latest"), format!("offsets:0:{LINES}"));
    let plan = folder.path().join("delete.json");
    fs::write(&plan, r#"{"version":1,"partitions":[{"topic":"offsets","partition":0,"offset":777}]}"#)
        .unwrap();
    ok(tools.delete_records(&["--offset-json-file", plan.to_str().unwrap()]));
    assert_eq!(offset_at("earliest"), "offsets:0:777");

    ok(tools.topics(&["--delete", "--topic", "admin"]));
    assert!(!ok(tools.topics(&["--list"])).lines().any(|line| line == "admin"));
}

fn on_file() -> Thalweg {
    Options::new().unwrap().start().unwrap()
}

mod with_kcat {
    use super::*;

    #[test]
    fn kcat_gets_back_what_it_wrote_from_files() {
        kcat_round_trips_every_codec(&on_file());
    }

    mod on_minio {
        use super::*;

        #[test]
        fn kcat_gets_back_what_it_wrote_from_s3() {
            let minio = MinIo::start().unwrap();
            kcat_round_trips_every_codec(&Options::on_minio(&minio, "kcat").unwrap().start().unwrap());
        }
    }
}

mod with_kafka_tools {
    use super::*;

    #[test]
    fn console_clients_get_back_what_they_wrote_from_files() {
        console_clients_round_trip(&on_file());
    }

    #[test]
    fn every_api_version_is_announced_as_kafka_expects() {
        let broker = on_file();
        let versions =
            KafkaTools::new(broker.address()).unwrap().api_versions().unwrap().expect_success().unwrap();
        assert!(versions.stdout.contains("Produce(0)"), "{}", versions.stdout);
    }

    #[test]
    fn kafkas_admin_tools_work_on_files() {
        admin_tools_work(&on_file());
    }

    mod on_minio {
        use super::*;

        #[test]
        fn console_clients_get_back_what_they_wrote_from_s3() {
            let minio = MinIo::start().unwrap();
            console_clients_round_trip(&Options::on_minio(&minio, "console").unwrap().start().unwrap());
        }

        #[test]
        fn kafkas_admin_tools_work_on_s3() {
            let minio = MinIo::start().unwrap();
            admin_tools_work(&Options::on_minio(&minio, "admin").unwrap().start().unwrap());
        }
    }
}
