//! The switch, in virtual time, over a shelf that does as it is told.

use super::*;
use futures::{FutureExt, future::join_all};
use object_store::path::Path;
use std::collections::BTreeMap;
use thalweg_metadata::testing::runtime;
use thalweg_segment::{
    BrokerEpoch, BrokerId, Incarnation, Kind, LogId, SegmentWriter, testing::BatchBuilder,
};
use tokio::time::Instant;

/// What the shelf does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Good,
    /// Reads take a minute.
    Slow,
    /// Reads fail.
    Fails,
    /// Reads give other bytes.
    Lies,
    /// Writes do nothing.
    Full,
    /// Writes take an hour.
    SlowToWrite,
    /// It can't be opened.
    Gone,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<State>>);

struct State {
    mood: Mood,
    blocks: BTreeMap<BlockKey, Bytes>,
    /// Of each opening, whether it was to be empty.
    opened: Vec<bool>,
    reads: usize,
}

impl OpenShelf for Fake {
    fn open(&self, empty: bool) -> BoxFuture<'static, io::Result<Arc<dyn Shelf>>> {
        let mut state = self.0.lock();
        state.opened.push(empty);
        if empty {
            state.blocks.clear();
        }
        let opened: io::Result<Arc<dyn Shelf>> = match state.mood {
            Mood::Gone => Err(io::Error::other("gone")),
            // A new one each time: what was said of the one before does not count.
            _ => Ok(Arc::new(Opened(self.clone()))),
        };
        std::future::ready(opened).boxed()
    }
}

struct Opened(Fake);

impl Shelf for Opened {
    fn holds(&self, key: &BlockKey) -> bool {
        self.0.0.lock().blocks.contains_key(key)
    }

    fn read(&self, key: &BlockKey) -> BoxFuture<'static, io::Result<Option<Bytes>>> {
        let mut state = self.0.0.lock();
        state.reads += 1;
        let (mood, block) = (state.mood, state.blocks.get(key).cloned());
        async move {
            match mood {
                Mood::Slow => {
                    sleep(Duration::from_secs(60)).await;
                    Ok(block)
                }
                Mood::Fails => Err(io::Error::other("EIO")),
                Mood::Lies => Ok(Some(Bytes::from_static(b"something else"))),
                _ => Ok(block),
            }
        }
        .boxed()
    }

    fn write(&self, blocks: Vec<(BlockKey, Bytes)>) -> BoxFuture<'static, io::Result<usize>> {
        let mut state = self.0.0.lock();
        match state.mood {
            Mood::Full => std::future::ready(Ok(0)).boxed(),
            Mood::SlowToWrite => sleep(Duration::from_secs(3600)).map(|()| Ok(0)).boxed(),
            _ => {
                let written = blocks.len();
                state.blocks.extend(blocks);
                std::future::ready(Ok(written)).boxed()
            }
        }
    }
}

struct World {
    fake: Fake,
    disk: DiskCache,
    blocks: Vec<(BlockKey, BlockEntry, Bytes)>,
}

impl World {
    /// 100 blocks, all of them offered.
    async fn new(mood: Mood) -> Self {
        let state = State { mood: Mood::Good, blocks: BTreeMap::new(), opened: Vec::new(), reads: 0 };
        let fake = Fake(Arc::new(Mutex::new(state)));
        fake.0.lock().mood = if mood == Mood::Gone { mood } else { Mood::Good };
        let disk = DiskCache::of(&runtime(), Box::new(fake.clone()), 1 << 20, &mut Registry::default());
        let world = Self { fake, disk, blocks: blocks() };
        sleep(Duration::from_secs(1)).await;
        world.offer_all();
        sleep(Duration::from_secs(1)).await;
        world.set(mood);
        world
    }

    fn set(&self, mood: Mood) {
        self.fake.0.lock().mood = mood;
    }

    fn offer_all(&self) {
        self.blocks.iter().for_each(|(key, _, bytes)| self.disk.offer(key, bytes));
    }

    /// Reads a block, which must be right if it is there at all.
    async fn read(&self, n: usize) -> bool {
        let (key, entry, bytes) = &self.blocks[n];
        if !self.disk.holds(key) {
            return false;
        }
        let read = self.disk.read(key, entry).await;
        assert!(read.as_ref().is_none_or(|read| read == bytes));
        read.is_some()
    }

    async fn hits(&self) -> usize {
        let mut hits = 0;
        for n in 0..self.blocks.len() {
            hits += usize::from(self.read(n).await);
        }
        hits
    }

    /// The shelf loses the first `n` blocks.
    fn lose(&self, n: usize) {
        let mut state = self.fake.0.lock();
        self.blocks[..n].iter().for_each(|(key, ..)| drop(state.blocks.remove(key)));
    }

    fn opened(&self) -> Vec<bool> {
        self.fake.0.lock().opened.clone()
    }

    fn reads(&self) -> usize {
        self.fake.0.lock().reads
    }
}

/// One of each of 100 logs.
fn blocks() -> Vec<(BlockKey, BlockEntry, Bytes)> {
    let writer = Incarnation { broker: BrokerId(1), epoch: BrokerEpoch(1) };
    let mut writer = SegmentWriter::new(Kind::Shared, writer, 0);
    (0..100).for_each(|n| writer.batch(LogId(n), &BatchBuilder::new().records(1, 1000).build()));
    let encoded = writer.finish();
    let object: Bytes = encoded.payload.iter().flat_map(|part| part.to_vec()).collect();
    let block = |entry: &BlockEntry| {
        let key = BlockKey { path: Path::from("object"), position: entry.position };
        (key, entry.clone(), object.slice(entry.position as usize..entry.end_position() as usize))
    };
    encoded.index.blocks.iter().map(block).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_is_written_and_found() {
    let world = World::new(Mood::Good).await;
    assert_eq!(world.hits().await, 100);
    assert_eq!(world.opened(), [false]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_is_waited_for_a_little_a_few_times_and_then_left_alone() {
    let world = World::new(Mood::Slow).await;
    let began = Instant::now();
    assert_eq!(world.hits().await, 0);
    assert_eq!((world.reads(), began.elapsed()), (8, 8 * READ_PATIENCE));
    assert!(!world.disk.holds(&world.blocks[0].0));
    world.set(Mood::Good);
    sleep(Duration::from_secs(31)).await;
    assert_eq!((world.hits().await, world.opened()), (100, vec![false, false]));
}

#[tokio::test(start_paused = true)]
async fn more_reads_than_the_disk_may_have_at_once_do_not_wait_for_it() {
    let world = World::new(Mood::Slow).await;
    let began = Instant::now();
    join_all((0..100).map(|n| world.read(n))).await;
    assert_eq!((world.reads(), began.elapsed()), (READS, READ_PATIENCE));
}

#[tokio::test(start_paused = true)]
async fn an_error_switches_the_disk_off_and_it_is_tried_again() {
    let world = World::new(Mood::Fails).await;
    assert_eq!((world.hits().await, world.reads()), (0, 1));
    sleep(Duration::from_secs(31)).await;
    assert_eq!((world.hits().await, world.reads()), (0, 2));
    world.set(Mood::Good);
    sleep(Duration::from_secs(31)).await;
    assert_eq!((world.hits().await, world.reads()), (0, 2), "it waits for longer");
    sleep(Duration::from_secs(30)).await;
    assert_eq!((world.hits().await, world.opened()), (100, vec![false; 3]));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_lies_gives_nothing_and_is_begun_anew() {
    let world = World::new(Mood::Lies).await;
    assert_eq!((world.hits().await, world.reads()), (0, 16));
    world.set(Mood::Good);
    sleep(Duration::from_secs(31)).await;
    assert_eq!((world.hits().await, world.opened()), (0, vec![false, true]));
    world.offer_all();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.hits().await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_no_writes_is_read_on() {
    let world = World::new(Mood::Full).await;
    world.lose(10);
    for _ in 0..3 {
        world.offer_all();
        sleep(Duration::from_secs(1)).await;
    }
    world.offer_all();
    assert!(world.disk.inner.queue.is_empty(), "nothing is taken in any more");
    assert_eq!(world.hits().await, 90);
    world.set(Mood::Good);
    sleep(Duration::from_secs(31)).await;
    world.offer_all();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((world.hits().await, world.opened()), (100, vec![false, false]));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_slow_to_write_to_is_left_alone() {
    let world = World::new(Mood::SlowToWrite).await;
    world.lose(10);
    world.offer_all();
    assert_eq!(world.hits().await, 90, "while it is written to");
    sleep(WRITE_PATIENCE + Duration::from_secs(1)).await;
    assert_eq!(world.hits().await, 0);
    world.set(Mood::Good);
    sleep(Duration::from_secs(31)).await;
    assert_eq!((world.hits().await, world.opened()), (90, vec![false, false]));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_opened_is_tried_again_with_what_it_holds_and_without() {
    let world = World::new(Mood::Gone).await;
    assert_eq!((world.hits().await, world.reads()), (0, 0));
    sleep(Duration::from_secs(100)).await;
    assert_eq!(world.opened(), [false, true, false]);
    world.set(Mood::Good);
    sleep(Duration::from_secs(1000)).await;
    world.offer_all();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.hits().await, 100);
}
