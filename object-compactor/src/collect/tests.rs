use super::*;
use object_store::memory::InMemory;
use proptest::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use thalweg_metadata::{
    Commit,
    testing::{Flushes, runtime},
};
use thalweg_segment::{
    BrokerEpoch, BrokerId, Encoded, LogId, manifest_number, segment_path, testing::BatchBuilder, wal_path,
};
use tokio::time::sleep;

const OWN: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(5) };
const DEAD: Incarnation = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(3) };
const LATER: Incarnation = Incarnation { broker: BrokerId(2), epoch: BrokerEpoch(7) };
const FENCE: u64 = 100;
const MINUTE: Duration = Duration::from_secs(60);

fn object(location: Path, size: u64) -> ObjectMeta {
    let last_modified = std::time::UNIX_EPOCH.into();
    ObjectMeta { location, last_modified, size, e_tag: None, version: None }
}

fn segment(incarnation: Incarnation, number: u64) -> SegmentId {
    SegmentId { incarnation, number }
}

/// What is garbage of these, where segment 0 of each incarnation is needed, WAL object 1 of the dead one and 2 of our own are
/// adopted, and our trim point is 10.
fn judge(paths: &[Path], size: u64) -> Vec<bool> {
    let settled = BTreeSet::from([DEAD]);
    let adopted =
        BTreeMap::from([(DEAD, BTreeSet::from([WalSequence(1)])), (OWN, BTreeSet::from([WalSequence(2)]))]);
    let view = View {
        own: OWN,
        trim: WalSequence(10),
        settled: &settled,
        adopted: &adopted,
        is_needed: &|id| id.number == 0,
        fence: FENCE,
    };
    let listing: Vec<_> = paths.iter().map(|path| object(path.clone(), size)).collect();
    let garbage = garbage(&listing, &view);
    paths.iter().map(|path| garbage.contains(path)).collect()
}

#[test]
fn a_segment_is_garbage_where_its_writer_is_settled_or_we_and_nothing_needs_it() {
    for (writer, number, expected) in [
        (OWN, 0, false),
        (OWN, 1, true),
        (DEAD, 0, false),
        (DEAD, 1, true),
        (LATER, 0, false),
        (LATER, 1, false),
    ] {
        let judged = judge(&[segment_path(segment(writer, number))], 1);
        assert_eq!(judged, [expected], "{writer}/{number}");
    }
}

#[test]
fn a_manifest_may_yet_be_adopted_until_whom_it_adopts_is_settled() {
    for writer in [OWN, DEAD] {
        for (adopts, expected) in [(DEAD, true), (OWN, false), (LATER, false)] {
            let number = manifest_number(adopts, 3);
            let judged = judge(&[segment_path(segment(writer, number))], 1);
            assert_eq!(judged, [expected], "of {writer} for {adopts}");
        }
    }
}

#[test]
fn a_wal_object_is_garbage_where_no_manifest_refers_to_it_and_its_writer_needs_it_no_longer() {
    for (writer, sequence, expected) in [
        (OWN, 1, true),
        (OWN, 2, false),
        (OWN, 9, true),
        (OWN, 10, false),
        (DEAD, 0, true),
        (DEAD, 1, false),
        (DEAD, 1000, true),
        (LATER, 0, false),
    ] {
        let path = wal_path(writer, WalSequence(sequence));
        assert_eq!(judge(std::slice::from_ref(&path), FENCE + 1), [expected], "{writer} {sequence}");
        assert_eq!(judge(&[path], FENCE), [false], "{writer} {sequence}, as small as a fence");
    }
}

#[test]
fn keys_that_are_nobodys_are_never_touched() {
    let good = segment_path(segment(DEAD, 1)).to_string();
    let foreign =
        ["thalweg", "meta/1", "seg/aa/x", "seg/zz/1/2/3", &format!("{good}#1"), &format!("x/{good}")];
    let foreign: Vec<_> = foreign.iter().map(|key| Path::from(*key)).collect();
    assert!(judge(&foreign, FENCE + 1).iter().all(|garbage| !garbage));
    assert_eq!(judge(&[Path::from(good)], FENCE + 1), [true]);
}

#[test]
fn what_manifests_refer_to_must_be_known_before_a_wal_object_is_judged() {
    let (settled, adopted) = (BTreeSet::from([DEAD]), BTreeMap::new());
    let view = View {
        own: OWN,
        trim: WalSequence(10),
        settled: &settled,
        adopted: &adopted,
        is_needed: &|_| false,
        fence: FENCE,
    };
    let listing = [object(wal_path(DEAD, WalSequence(0)), FENCE + 1)];
    assert!(garbage(&listing, &view).is_empty());
}

/// A bucket in which garbage comes and goes; looks at random times.
#[derive(Debug, Clone)]
struct Step {
    wait: u64,
    changes: Vec<(u8, bool)>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = prop::collection::vec((any::<u8>(), any::<bool>()), 0..4);
    prop::collection::vec((0u64..100, changes).prop_map(|(wait, changes)| Step { wait, changes }), 1..120)
}

proptest! {
    #[test]
    fn only_what_was_garbage_at_two_looks_a_delay_apart_is_deleted_and_what_stays_garbage_is_in_the_end(
        steps in steps(), ordered: bool,
    ) {
        let order = if ordered { ListingOrder::Keys } else { ListingOrder::None };
        let paths: Vec<_> = (0..=255u64).map(|number| segment_path(segment(DEAD, number))).collect();
        let listed = |sweep: &Sweep, there: &BTreeSet<usize>| -> Vec<ObjectMeta> {
            let wanted = sweep.wanted();
            let is_wanted = |path: &Path| wanted.iter().any(|listing| {
                path.prefix_matches(&listing.prefix) && listing.after.as_ref().is_none_or(|after| path > after)
            });
            let mut found: Vec<_> = there.iter().map(|at| paths[*at].clone()).filter(is_wanted).collect();
            found.sort();
            found.into_iter().map(|path| object(path, 1)).collect()
        };
        let delay = MINUTE;
        let mut now = Instant::now();
        let mut sweep = Sweep::new(order);
        let mut there: BTreeSet<usize> = (0..paths.len()).collect();
        let mut is_garbage: BTreeSet<usize> = BTreeSet::new();
        // When each object was seen as garbage first.
        let mut first_seen: BTreeMap<usize, Instant> = BTreeMap::new();
        for step in steps {
            now += Duration::from_secs(step.wait);
            for (at, garbage) in step.changes {
                match garbage {
                    true => is_garbage.insert(at.into()),
                    // What was deleted is not needed again.
                    false => there.contains(&usize::from(at)) && is_garbage.remove(&usize::from(at)),
                };
            }
            let listing = listed(&sweep, &there);
            let seen = |at: &usize| listing.iter().any(|object| object.location == paths[*at]);
            let seen: Vec<usize> = is_garbage.iter().copied().filter(seen).collect();
            let garbage = seen.iter().map(|at| paths[*at].clone()).collect();
            for path in sweep.looked(&listing, garbage, now, delay) {
                let at = paths.iter().position(|other| *other == path).expect("one of ours");
                prop_assert!(is_garbage.contains(&at));
                prop_assert!(first_seen.get(&at).is_some_and(|first| now >= *first + delay));
                there.remove(&at);
            }
            seen.into_iter().for_each(|at| _ = first_seen.entry(at).or_insert(now));
        }
        // Two sweeps later nothing is left of what stays garbage.
        let until = sweep.sweeps() + 3;
        while sweep.sweeps() < until {
            now += MINUTE;
            let listing = listed(&sweep, &there);
            let garbage: BTreeSet<Path> = is_garbage.iter().map(|at| paths[*at].clone())
                .filter(|path| listing.iter().any(|object| object.location == *path)).collect();
            for path in sweep.looked(&listing, garbage, now, delay) {
                there.remove(&paths.iter().position(|other| *other == path).expect("one of ours"));
            }
        }
        for (at, path) in paths.iter().enumerate() {
            prop_assert_eq!(there.contains(&at), !is_garbage.contains(&at), "{}", path);
        }
    }
}

#[test]
fn a_second_look_that_comes_too_early_confirms_nothing() {
    let mut sweep = Sweep::new(ListingOrder::Keys);
    let listing = [object(wal_path(DEAD, WalSequence(0)), 1), object(wal_path(DEAD, WalSequence(1)), 1)];
    let [first, second] = listing.each_ref().map(|object| object.location.clone());
    let now = Instant::now();
    let both = BTreeSet::from([first.clone(), second.clone()]);
    assert_eq!(sweep.not_before(), None);
    assert!(sweep.looked(&listing, BTreeSet::from([first.clone()]), now, MINUTE).is_empty());
    assert_eq!(sweep.not_before(), Some(now + MINUTE));
    assert!(sweep.looked(&listing, both.clone(), now + MINUTE / 2, MINUTE).is_empty());
    assert_eq!(sweep.looked(&listing, both, now + MINUTE, MINUTE), BTreeSet::from([first]));
    assert_eq!(sweep.not_before(), None);
}

#[test]
fn a_bucket_of_many_pages_is_gone_through_page_by_page() {
    let mut sweep = Sweep::new(ListingOrder::Keys);
    let all: Vec<_> = (0..2500).map(|n| object(wal_path(DEAD, WalSequence(n)), 1)).collect();
    let mut seen = 0;
    while sweep.wanted()[0].prefix == Path::from("wal") {
        let Listing { after, limit, .. } = sweep.wanted().remove(0);
        let page = all.iter().filter(|object| after.as_ref().is_none_or(|after| object.location > *after));
        let page: Vec<_> = page.take(limit.expect("a page")).cloned().collect();
        seen += page.len();
        sweep.looked(&page, BTreeSet::new(), Instant::now(), MINUTE);
    }
    assert_eq!((seen, sweep.sweeps()), (2500, 0));
    sweep.looked(&[], BTreeSet::new(), Instant::now(), MINUTE);
    assert_eq!(sweep.sweeps(), 1);
}

#[derive(Default)]
struct Us {
    incarnation: Incarnation,
    ended: Arc<AtomicBool>,
}

impl Own for Us {
    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
    fn trim_point(&self) -> WalSequence {
        WalSequence(1)
    }
    fn is_reserved(&self, id: SegmentId) -> bool {
        id.number == 77
    }
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Everything that is left after two sweeps.
async fn collect(collector: &mut Collector<Us>, store: &Store) -> Vec<Path> {
    let until = collector.sweeps() + 2;
    while collector.sweeps() < until {
        collector.look(MINUTE).await.expect("memory does not fail");
        sleep(MINUTE).await;
    }
    let left = store.list(&Path::default(), None, Purpose::Check).await.expect("readable");
    left.into_iter().map(|object| object.location).collect()
}

fn wal_data(writer: Incarnation, sequence: u64) -> Encoded {
    let mut object = SegmentWriter::new(Kind::Wal, writer, sequence);
    object.batch(LogId(1), &BatchBuilder::new().records(1, 10).build());
    object.finish()
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_incarnation_left_is_deleted_but_for_its_fences_and_what_is_adopted() {
    let mut flushes = Flushes::into(Arc::new(InMemory::new())).await;
    let store = flushes.store.clone();
    let (shared, blocks) =
        flushes.shared(&[(LogId(1), vec![BatchBuilder::new().records(1, 10).build()])]).await;
    let content = [(LogId(2), vec![BatchBuilder::new().records(1, 10).build()])];
    let (manifest, adopted) = flushes.adopted(&[&content]).await;
    let dead = manifest.adopts.expect("a manifest");
    let index = flushes.load().await;
    index.add(&Commit { shared: Some(shared), ..Commit::default() }, Some(blocks));
    index.add_manifest(&manifest, adopted);
    let mut kept: BTreeSet<Path> = store
        .list(&Path::default(), None, Purpose::Check)
        .await
        .expect("readable")
        .into_iter()
        .map(|o| o.location)
        .collect();

    let own = shared.id.incarnation;
    let put = async |path: Path, encoded: Encoded| {
        store.put(&path, encoded.payload, Purpose::Flush).await.expect("memory takes it");
        path
    };
    let fence = SegmentWriter::index_only(Kind::Fence, own, 40, Index::default());
    kept.insert(put(wal_path(dead, WalSequence(40)), fence).await);
    // Larger than a fence, and not what its key says.
    kept.insert(put(wal_path(dead, WalSequence(41)), wal_data(dead, 40)).await);
    kept.insert(put(wal_path(own, WalSequence(1)), wal_data(own, 1)).await);
    kept.insert(put(segment_path(segment(own, 77)), wal_data(own, 1)).await);
    kept.insert(put(segment_path(segment(LATER, 5)), wal_data(own, 1)).await);
    put(wal_path(dead, WalSequence(39)), wal_data(dead, 39)).await;
    put(wal_path(own, WalSequence(0)), wal_data(own, 0)).await;
    put(segment_path(segment(dead, 9)), wal_data(dead, 9)).await;
    put(segment_path(segment(own, 78)), wal_data(own, 1)).await;

    for order in [ListingOrder::Keys, ListingOrder::None] {
        let us = Us { incarnation: own, ..Us::default() };
        let deletion = Deletion::start(&runtime(), store.clone());
        let settled = BTreeSet::from([dead]);
        let mut collector = Collector::new(store.clone(), index.clone(), deletion, us, settled, order);
        let left = collect(&mut collector, &store).await;
        assert_eq!(left, kept.iter().cloned().collect::<Vec<_>>(), "{order:?}");
        put(wal_path(dead, WalSequence(38)), wal_data(dead, 38)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_incarnation_that_has_ended_deletes_nothing_and_what_waits_elsewhere_is_left_to_that() {
    let flushes = Flushes::into(Arc::new(InMemory::new())).await;
    let (store, index) = (flushes.store.clone(), flushes.load().await);
    let path = segment_path(segment(DEAD, 9));
    store.put(&path, wal_data(DEAD, 9).payload, Purpose::Flush).await.expect("memory takes it");
    let ended = Arc::new(AtomicBool::new(true));
    let us = Us { incarnation: OWN, ended: ended.clone() };
    let deletion = Deletion::start(&runtime(), store.clone());
    let settled = BTreeSet::from([DEAD]);
    let mut collector =
        Collector::new(store.clone(), index, deletion.clone(), us, settled, ListingOrder::Keys);
    assert!(matches!(collector.look(MINUTE).await, Err(LookError::Ended)));
    ended.store(false, Ordering::Relaxed);
    deletion.after(1000 * MINUTE, [path.clone()]);
    assert_eq!(collect(&mut collector, &store).await, std::slice::from_ref(&path));
    assert!(deletion.is_waiting(&path));
}
