use super::*;
use crate::{
    scripted_store::{Fate, ScriptedStore, test_runtime},
    sequencer::{Batches, Cause},
};
use object_store::{ObjectStoreExt, PutPayload};
use std::sync::Arc;
use thalweg_segment::{BrokerEpoch, BrokerId, LogId, read_index, testing::BatchBuilder};

const SEQUENCE: WalSequence = WalSequence(3);

fn incarnation() -> Incarnation {
    Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(9) }
}

fn object() -> CutObject {
    let batches = Batches::from([(LogId(1), vec![BatchBuilder::new().records(3, 10).build()])]);
    let bytes = batches[&LogId(1)][0].len();
    CutObject { sequence: SEQUENCE, batches: Arc::new(batches), bytes, cause: Cause::Idle }
}

fn uploader(store: &Arc<ScriptedStore>, tokens: bool) -> Uploader {
    let (runtime, config) = (test_runtime(), WalConfig::default());
    Uploader {
        store: store.store(&runtime),
        runtime,
        incarnation: incarnation(),
        metrics: Metrics::register(&mut Default::default()),
        hedges: Mutex::new(HedgePolicy::new(config.hedge_min, config.hedge_max)),
        config,
        draw_hedge: Box::new(move || tokens),
        rejected: false.into(),
    }
}

/// What an upload has come to.
struct Outcome {
    result: Result<(), Fenced>,
    took: Duration,
    /// Milliseconds from its start to each PUT.
    puts: Vec<u128>,
}

async fn upload_to(store: &Arc<ScriptedStore>, tokens: bool) -> Outcome {
    let start = Instant::now();
    let result = uploader(store, tokens).upload(object()).await;
    Outcome { result, took: start.elapsed(), puts: store.puts_since(start) }
}

async fn upload(script: impl IntoIterator<Item = Fate>) -> Outcome {
    upload_to(&ScriptedStore::new(script), true).await
}

/// Puts an object of `writer` at the key of ours.
async fn occupy(store: &ScriptedStore, kind: Kind, writer: Incarnation) {
    let encoded = SegmentWriter::new(kind, writer, SEQUENCE.0).finish();
    store.inner.put(&wal_path(incarnation(), SEQUENCE), encoded.payload).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_is_one_put_at_the_key_of_its_sequence() {
    let store = ScriptedStore::new([]);
    let outcome = upload_to(&store, true).await;
    assert!(outcome.result.is_ok());
    assert_eq!(store.put_paths(), [wal_path(incarnation(), SEQUENCE)]);
    let (footer, index) =
        read_index(&store.store(&test_runtime()), &wal_path(incarnation(), SEQUENCE)).await.unwrap();
    assert_eq!((footer.kind, footer.writer, footer.number), (Kind::Wal, incarnation(), SEQUENCE.0));
    assert_eq!(index.blocks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_answer_was_lost_is_found_at_its_key() {
    let outcome = upload([Fate::AnswerLost]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.puts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_is_repeated_with_growing_waits() {
    let outcome = upload([Fate::Failed; 8]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.puts.len(), 9);
    let waits: Vec<_> = outcome.puts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((25..=75).contains(&waits[0]), "50 ms ± 50 %, not {}", waits[0]);
    assert!((1000..=3000).contains(&waits[7]), "2 s ± 50 %, not {}", waits[7]);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_with_nothing_at_the_key_is_repeated() {
    let outcome = upload([Fate::Conflict, Fate::Conflict]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.puts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fence_at_the_key_ends_the_upload() {
    let store = ScriptedStore::new([]);
    occupy(&store, Kind::Fence, Incarnation { broker: BrokerId(2), epoch: BrokerEpoch(10) }).await;
    let Fenced(why) = upload_to(&store, true).await.result.unwrap_err();
    assert_eq!(why, "at WAL sequence 3 stands a Fence object of 2@10");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_ours_with_another_content_is_not_taken_for_this_one() {
    let store = ScriptedStore::new([]);
    occupy(&store, Kind::Wal, incarnation()).await;
    assert!(upload_to(&store, true).await.result.is_err());
}

#[tokio::test(start_paused = true)]
async fn something_unreadable_at_the_key_is_not_taken_for_ours() {
    let store = ScriptedStore::new([]);
    store.inner.put(&wal_path(incarnation(), SEQUENCE), PutPayload::from_static(b"?")).await.unwrap();
    assert!(upload_to(&store, true).await.result.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_put_is_overtaken_by_its_hedge() {
    let outcome = upload([Fate::Done(Duration::from_secs(5)), Fate::Done(Duration::from_millis(30))]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.puts, [0, 400]);
    assert_eq!(outcome.took.as_millis(), 430);
}

#[tokio::test(start_paused = true)]
async fn a_slow_put_may_be_answered_before_its_hedge() {
    let outcome = upload([Fate::Done(Duration::from_millis(410)), Fate::Done(Duration::from_secs(5))]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.took.as_millis(), 410);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_finds_the_unanswered_first_put_is_a_success() {
    let outcome = upload([Fate::Unanswered]).await;
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.took.as_millis(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_fails_leaves_the_first_put_alone() {
    let outcome = upload([Fate::Done(Duration::from_secs(2)), Fate::Failed]).await;
    assert!(outcome.result.is_ok());
    assert_eq!((outcome.puts.len(), outcome.took.as_millis()), (2, 2000));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_meets_a_conflict_leaves_the_first_put_alone() {
    let outcome = upload([Fate::Done(Duration::from_secs(2)), Fate::Conflict]).await;
    assert!(outcome.result.is_ok());
    assert_eq!((outcome.puts.len(), outcome.took.as_millis()), (2, 2000));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_a_slow_put_is_waited_for() {
    let store = ScriptedStore::new([Fate::Done(Duration::from_secs(5))]);
    let outcome = upload_to(&store, false).await;
    assert_eq!((outcome.puts.len(), outcome.took.as_millis()), (1, 5000));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_never_answered_is_given_up_and_repeated() {
    let store = ScriptedStore::new([Fate::Unanswered]);
    let outcome = upload_to(&store, false).await;
    assert!(outcome.result.is_ok());
    assert!(outcome.puts[1] >= 10_000);
    assert_eq!(outcome.puts.len(), 2, "the repetition finds the first");

    let store = ScriptedStore::new([Fate::Lost]);
    assert!(upload_to(&store, false).await.result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_us_is_asked_again_now_and_then() {
    let store = ScriptedStore::new([Fate::Denied; 3]);
    let uploader = uploader(&store, true);
    let start = Instant::now();
    assert!(uploader.upload(object()).await.is_ok());
    assert!(!uploader.rejected.load(Ordering::Relaxed), "the state is back to normal");
    assert_eq!(store.puts_since(start).len(), 4);
    assert!(start.elapsed() >= REJECTED_BACKOFF * 3 / 2);
}

#[tokio::test(start_paused = true)]
async fn hedges_go_out_at_the_p99_of_recent_puts() {
    let store = ScriptedStore::new([]);
    let uploader = uploader(&store, true);
    let encoded = uploader.encode(object()).await;
    for _ in 0..100 {
        uploader.hedges.lock().observe(encoded.size, Duration::from_millis(60));
    }
    store.then([Fate::Unanswered]);
    let start = Instant::now();
    assert!(uploader.upload(object()).await.is_ok());
    assert_eq!(store.puts_since(start), [0, 60]);
}
