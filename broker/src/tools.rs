//! What the program does beside serving, on the bucket of the settings: `thalweg fsck` and `thalweg restore`.

use crate::{
    config::Config,
    program::{self, PATIENCE},
};
use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use std::{fmt::Display, process::ExitCode, sync::Arc, time::Duration};
use thalweg_fsck::{OpenMetadata, Options, Report, Restored};
use thalweg_metadata::{EmbeddedKv, EmbeddedOptions, EmbeddedReader, KeyValueStore, Metadata, MetadataError};
use thalweg_runtime::Runtime;
use thalweg_segment::{ObjectStoreConfig, Purpose, Store, metadata_path, read_marker};

/// Problems were found, or something could not be restored.
const INCOMPLETE: u8 = 1;
/// It did not come to an end; nothing is said of the data.
const UNKNOWN: u8 = 2;

/// How to check.
#[derive(clap::Args)]
pub struct FsckArguments {
    /// Read every block and check its CRC
    #[arg(long)]
    deep: bool,
    /// Report as JSON, described in docs/fsck.md
    #[arg(long)]
    json: bool,
    /// What nothing refers to is a problem once it is this much older than the newest object, e.g. 90s, 15m, 1h, 2d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    orphan_age: Duration,
}

/// How to restore.
#[derive(clap::Args)]
pub struct RestoreArguments {
    /// The bucket whose metadata are lost, in the form of object.store.url; that of the settings if not given
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Report as JSON, described in docs/fsck.md
    #[arg(long)]
    json: bool,
}

/// `thalweg fsck`: 0 where all is well, 1 where problems were found, 2 where it could not be checked.
pub fn fsck(config: &Config, arguments: &FsckArguments) -> ExitCode {
    let options = Options { deep: arguments.deep, orphan_age: arguments.orphan_age };
    let checked = run(config, async |runtime| check(config, runtime, options).await);
    conclude(checked, arguments.json, Report::is_clean, Report::to_json)
}

/// `thalweg restore`: 0 where all came back, 1 where something didn't, 2 where nothing was done.
pub fn restore(config: &Config, arguments: &RestoreArguments) -> ExitCode {
    let restored =
        run(config, async |runtime| restore_metadata(config, runtime, arguments.to.as_deref()).await);
    conclude(restored, arguments.json, Restored::is_complete, Restored::to_json)
}

fn conclude<T: Display>(
    outcome: anyhow::Result<T>,
    json: bool,
    is_well: impl Fn(&T) -> bool,
    to_json: impl Fn(&T) -> String,
) -> ExitCode {
    match outcome {
        Ok(report) => {
            if json {
                println!("{}", to_json(&report));
            } else {
                println!("{report}");
            }
            if is_well(&report) { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) }
        }
        Err(error) => {
            eprintln!("thalweg: {error:#}");
            ExitCode::from(UNKNOWN)
        }
    }
}

fn run<T>(config: &Config, work: impl AsyncFnOnce(&Runtime) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let _set_filter = program::init_logging(config);
    let threads = program::threads(config);
    let runtime = program::tokio_runtime(threads)?;
    let outcome = runtime.block_on(async { work(&Runtime::system(threads)).await });
    runtime.shutdown_background();
    outcome
}

async fn check(config: &Config, runtime: &Runtime, options: Options) -> anyhow::Result<Report> {
    let (store, cluster) = open(&config.object_store(), runtime).await?;
    let metadata = Embedded { runtime: runtime.clone(), store: store.clone() };
    Ok(thalweg_fsck::check(runtime, &store, &metadata, &cluster, options).await?)
}

async fn restore_metadata(config: &Config, runtime: &Runtime, to: Option<&str>) -> anyhow::Result<Restored> {
    let mut bucket = config.object_store();
    if let Some(url) = to {
        bucket.url = url.to_owned();
    }
    let (store, cluster) = open(&bucket, runtime).await?;
    let found = store.list(&metadata_path(), None, Purpose::Check).await?;
    if let Some(object) = found.first() {
        bail!("{} has metadata ({}): they are not restored over what there is", bucket.url, object.location);
    }
    let options = EmbeddedOptions { local_files: bucket.url.starts_with("file:") };
    let client = store.client(Purpose::Metadata);
    let kv = EmbeddedKv::open(runtime.clone(), client, metadata_path(), options).await;
    let kv: Arc<dyn KeyValueStore> = Arc::new(kv.context("cannot create the metadata store")?);
    let metadata = Metadata::new(kv, runtime.clone());
    let window = config.broker_settings().wal.window;
    let restored = thalweg_fsck::restore(runtime, &store, &metadata, &cluster, window).await?;
    metadata.close().await.context("the metadata store did not close in good order")?;
    Ok(restored)
}

/// Opens the bucket of a cluster, without creating anything. Gives the cluster's id too.
async fn open(bucket: &ObjectStoreConfig, runtime: &Runtime) -> anyhow::Result<(Store, String)> {
    let url = &bucket.url;
    if let Some(directory) = bucket.directory().filter(|directory| !directory.is_dir()) {
        bail!("{} is no directory", directory.display());
    }
    let client =
        thalweg_segment::open(bucket, runtime).await.with_context(|| format!("cannot open {url}"))?;
    let store = Store::new(client, runtime.clone(), PATIENCE);
    let cluster = read_marker(&store).await.with_context(|| url.clone())?;
    let cluster = cluster.ok_or_else(|| anyhow!("{url} is not a bucket of Thalweg: it has no marker"))?;
    Ok((store, cluster))
}

/// A number and its unit: s, m, h or d.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let found = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let seconds = found.and_then(|(number, unit)| number.parse::<u64>().ok()?.checked_mul(*unit));
    seconds.map(Duration::from_secs).ok_or_else(|| "a number and s, m, h or d, such as 15m".to_owned())
}

/// The embedded metadata of a bucket.
struct Embedded {
    runtime: Runtime,
    store: Store,
}

#[async_trait]
impl OpenMetadata for Embedded {
    async fn open(&self) -> Result<Metadata, MetadataError> {
        let reader = EmbeddedReader::open(self.store.client(Purpose::Metadata), metadata_path()).await?;
        Ok(Metadata::new(Arc::new(reader), self.runtime.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs()).ok();
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("1h"), Some(3600));
        assert_eq!(seconds("2d"), Some(172_800));
        for wrong in ["", "s", "15", "-1s", "1.5h", "99999999999999999999d", "9999999999999999999d"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
