//! One incarnation commits while two recoverers take it over, every operation takes a random time, and transactions are
//! lost, answered by silence or applied up to a minute late. Whatever the order:
//! - a commit that was reported as successful is in the index, whole; and no commit is in it by half, or twice;
//! - nothing of the incarnation is applied after its record was raised;
//! - at most one recovery is reported as successful, and the index holds its manifest and no other.

use crate::{
    faults::{Faulty, runtime},
    *,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};
use thalweg_runtime::Runtime;
use thalweg_segment::{BrokerId, Incarnation, LogId, Offset, SegmentId, WalSequence};

/// Notes what is applied, in order.
struct Recorder {
    kv: Arc<dyn KeyValueStore>,
    applied: Mutex<Vec<Transaction>>,
}

#[async_trait]
impl KeyValueStore for Recorder {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        self.kv.get(key).await
    }

    async fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>, KvError> {
        self.kv.range(from, to, limit).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<bool, KvError> {
        // The store in memory answers without a pause, so the order of notes is the order of application.
        let applied = self.kv.transact(transaction.clone()).await?;
        if applied {
            self.applied.lock().push(transaction);
        }
        Ok(applied)
    }

    async fn close(&self) -> Result<(), KvError> {
        self.kv.close().await
    }
}

const SHAPE: ObjectShape = ObjectShape { size: 300, index_position: 200, index_size: 80 };

fn shared(incarnation: Incarnation, number: u64, adopts: Option<Incarnation>) -> SharedRecord {
    SharedRecord { id: SegmentId { incarnation, number }, shape: SHAPE, adopts }
}

/// The `number`th commit: every third one takes several transactions.
fn commit(incarnation: Incarnation, number: u64) -> Commit {
    let logs = if number % 3 == 2 { 200 } else { 1 };
    let segment = |log| LogSegmentRecord {
        log: LogId(log),
        base_offset: Offset(number as i64),
        end_offset: Offset(number as i64 + 1),
        max_timestamp: 0,
        id: SegmentId { incarnation, number: number * 1000 + log + 1 },
        shape: SHAPE,
        cleaned_to: Offset(0),
    };
    Commit {
        shared: Some(shared(incarnation, number * 1000, None)),
        logs: (0..logs).map(segment).collect(),
        trim: WalSequence(number + 1),
        ..Commit::default()
    }
}

/// Commits until it is fenced; returns those that were reported as successful.
async fn commit_on(metadata: Metadata, mut held: IncarnationRecord) -> Vec<Commit> {
    let mut reported = Vec::new();
    for number in 0..12 {
        let commit = commit(held.incarnation, number);
        loop {
            match metadata.commit(&held, commit.clone()).await {
                Ok(next) => {
                    held = next;
                    break reported.push(commit);
                }
                Err(error) if error.kind() == MetadataErrorKind::Retry => {}
                Err(error) => {
                    assert_eq!(error.kind(), MetadataErrorKind::Fenced, "{error}");
                    return reported;
                }
            }
        }
    }
    reported
}

/// Takes the incarnation over after a while; returns its manifest if that was reported as successful.
async fn recover(
    metadata: Metadata,
    runtime: Runtime,
    dead: Incarnation,
    recoverer: Incarnation,
) -> Option<SharedRecord> {
    let pause = |max_ms| {
        let moment = runtime.random().range(0..max_ms);
        tokio::time::sleep(Duration::from_millis(moment))
    };
    pause(20_000).await;
    let fencing = loop {
        match metadata.raise(dead, recoverer.epoch).await {
            Ok(fencing) => break fencing,
            Err(error) if error.kind() == MetadataErrorKind::Retry => {}
            Err(_) => return None,
        }
    };
    pause(5_000).await;
    let manifest = shared(recoverer, 0, Some(dead));
    loop {
        match metadata.adopt(&fencing, Some(manifest)).await {
            Ok(()) => return Some(manifest),
            Err(error) if error.kind() == MetadataErrorKind::Retry => {}
            Err(_) => return None,
        }
    }
}

fn check_order(applied: &[Transaction], incarnation: Incarnation) {
    let key = keys::incarnation(incarnation);
    let mut raised = false;
    let mut commits = 0;
    for write in applied.iter().flat_map(|transaction| &transaction.writes) {
        let Write::Put(written, value) = write else { continue };
        if *written == key {
            let record = IncarnationRecord::decode(incarnation, value).expect("a record");
            let open = record.state == IncarnationState::Open;
            assert!(!(open && raised), "{record:?} is applied after a raise");
            commits += u64::from(open && record.commit > 0);
            assert_eq!(record.commit, commits, "each commit is applied once");
            raised |= !open;
        }
    }
}

async fn run(seed: u64) {
    let runtime = runtime(seed);
    let recorder = Arc::new(Recorder { kv: MemoryKv::new().open(), applied: Mutex::default() });
    let calm = Metadata::new(recorder.clone(), runtime.clone());
    let register = async |broker| calm.register(BrokerId(broker), 8).await.expect("the store answers");
    let (held, first, second) = (register(1).await, register(2).await, register(3).await);
    let dead = held.incarnation;

    let faulty = || {
        let faulty = Faulty::random(recorder.clone(), runtime.clone());
        Metadata::new(Arc::new(faulty), runtime.clone())
    };
    let (reported, one, other) = futures::join!(
        commit_on(faulty(), held),
        recover(faulty(), runtime.clone(), dead, first.incarnation),
        recover(faulty(), runtime.clone(), dead, second.incarnation),
    );
    // Everything late arrives.
    tokio::time::sleep(Duration::from_secs(120)).await;

    check_order(&recorder.applied.lock(), dead);
    let (shared, logs) = (calm.shared_records().await.unwrap(), calm.log_segment_records().await.unwrap());
    for commit in &reported {
        assert!(shared.contains(&commit.shared.expect("every commit has one")), "{commit:?} is lost");
        assert!(commit.logs.iter().all(|log| logs.contains(log)), "{commit:?} is lost in part");
    }
    assert!(one.is_none() || other.is_none(), "two recoveries are reported");
    let manifests: Vec<_> = shared.into_iter().filter(|record| record.adopts.is_some()).collect();
    if let Some(manifest) = one.or(other) {
        assert_eq!(manifests, [manifest]);
    }
    assert!(manifests.len() <= 1, "{manifests:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn commits_and_recoveries_keep_their_word_in_every_order(seed: u64) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(run(seed));
    }
}
