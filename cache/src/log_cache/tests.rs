use super::*;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use thalweg_segment::testing::BatchBuilder;

const FOREVER: Offset = Offset(i64::MAX);

/// A batch of `records` records of `bytes` bytes each.
fn batch(base: i64, records: usize, bytes: usize) -> Batch {
    BatchBuilder::new().base_offset(base).records(records, bytes).build()
}

fn cache_of(batches: usize) -> LogCache {
    LogCache::new(batches * cost(&batch(0, 1, 100)), &mut Registry::default())
}

fn offsets(tail: Tail) -> Option<Vec<i64>> {
    match tail {
        Tail::Hit(batches) => Some(batches.iter().map(|batch| batch.base_offset().0).collect()),
        Tail::Older => None,
    }
}

fn read_all(cache: &LogCache, log: u64, from: i64) -> Option<Vec<i64>> {
    offsets(cache.read(LogId(log), Offset(from), FOREVER, usize::MAX, false))
}

#[test]
fn a_read_begins_with_the_batch_that_holds_the_offset_and_ends_at_the_limit() {
    let cache = cache_of(10);
    for base in [0, 10, 20] {
        cache.append(LogId(1), batch(base, 10, 100));
    }
    assert_eq!(read_all(&cache, 1, 15), Some(vec![10, 20]));
    let limited = cache.read(LogId(1), Offset(0), Offset(29), usize::MAX, true);
    assert_eq!(offsets(limited), Some(vec![0, 10]), "the last batch ends beyond the limit");
}

#[test]
fn what_is_replaced_goes_at_once_and_eviction_still_finds_the_oldest_of_others() {
    let cache = cache_of(4);
    for base in 0..3 {
        cache.append(LogId(1), batch(base, 1, 100));
        cache.append(LogId(2), batch(base, 1, 100));
    }
    cache.flushed(LogId(1), Offset(2));
    cache.replaced(LogId(1), Offset(3));
    assert_eq!(read_all(&cache, 1, 1), None);
    assert_eq!(read_all(&cache, 1, 2), Some(vec![2]), "it is not flushed");
    assert_eq!(cache.bytes(), 4 * cost(&batch(0, 1, 100)));
    cache.flushed(LogId(1), Offset(3));
    cache.flushed(LogId(2), Offset(3));
    assert_eq!(cache.shrink(usize::MAX), 4 * cost(&batch(0, 1, 100)));
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn an_oversized_first_batch_is_returned_only_where_asked_for() {
    let cache = cache_of(10);
    cache.append(LogId(1), batch(0, 1, 100));
    cache.append(LogId(1), batch(1, 1, 100));
    assert_eq!(offsets(cache.read(LogId(1), Offset(0), FOREVER, 10, true)), Some(vec![0]));
    assert_eq!(offsets(cache.read(LogId(1), Offset(0), FOREVER, 10, false)), Some(vec![]));
}

#[test]
fn the_end_of_a_log_is_a_hit_even_once_all_of_it_was_evicted() {
    let cache = cache_of(10);
    assert_eq!(read_all(&cache, 1, 0), None, "never appended to: only the index knows");
    cache.append(LogId(1), batch(7, 1, 100));
    assert_eq!(read_all(&cache, 1, 6), None);
    cache.flushed(LogId(1), Offset(8));
    assert!(cache.shrink(1) > 0);
    assert_eq!(cache.bytes(), 0);
    assert_eq!(read_all(&cache, 1, 7), None);
    assert_eq!(read_all(&cache, 1, 8), Some(vec![]));
}

#[test]
fn unflushed_batches_stay_whatever_the_capacity() {
    let cache = cache_of(0);
    for base in 0..5 {
        cache.append(LogId(1), batch(base, 1, 100));
    }
    assert_eq!(cache.shrink(usize::MAX), 0);
    assert_eq!(read_all(&cache, 1, 0), Some(vec![0, 1, 2, 3, 4]));
    cache.flushed(LogId(1), Offset(3));
    assert_eq!(read_all(&cache, 1, 2), None, "the flush made room");
    assert_eq!(read_all(&cache, 1, 3), Some(vec![3, 4]));
}

#[test]
fn batches_that_are_not_flushed_take_no_room_from_those_that_are() {
    let cache = cache_of(2);
    for base in 0..3 {
        cache.append(LogId(1), batch(base, 1, 100));
    }
    cache.flushed(LogId(1), Offset(3));
    assert_eq!(read_all(&cache, 1, 1), Some(vec![1, 2]));
    for base in 0..100 {
        cache.append(LogId(2), batch(base, 1, 100));
    }
    assert_eq!(read_all(&cache, 1, 1), Some(vec![1, 2]), "a consumer at the end of log 1 needs no store");
}

#[test]
fn the_oldest_append_of_any_log_goes_first() {
    let cache = cache_of(1);
    cache.append(LogId(1), batch(0, 1, 100));
    cache.append(LogId(2), batch(0, 1, 100));
    cache.append(LogId(1), batch(1, 1, 100));
    cache.flushed(LogId(2), Offset(1));
    assert_eq!(read_all(&cache, 2, 0), Some(vec![0]));
    cache.flushed(LogId(1), Offset(1));
    assert_eq!(read_all(&cache, 1, 0), None);
    assert_eq!(read_all(&cache, 1, 1), Some(vec![1]));
    assert_eq!(read_all(&cache, 2, 0), Some(vec![0]));
}

#[test]
fn a_removed_log_frees_its_bytes_and_does_not_hold_up_the_others() {
    let cache = cache_of(1);
    cache.append(LogId(1), batch(0, 1, 100));
    cache.append(LogId(2), batch(0, 1, 100));
    cache.remove(LogId(1));
    assert_eq!(cache.bytes(), cost(&batch(0, 1, 100)));
    cache.append(LogId(1), batch(0, 1, 100));
    cache.append(LogId(2), batch(1, 1, 100));
    cache.flushed(LogId(2), Offset(2));
    assert_eq!(read_all(&cache, 2, 0), None, "the oldest, once the removed one is passed over");
    assert_eq!(read_all(&cache, 1, 0), Some(vec![0]), "not flushed");
    cache.flushed(LogId(1), Offset(1));
    cache.remove(LogId(1));
    assert_eq!(cache.0.flushed_bytes(), cost(&batch(0, 1, 100)));
}

#[test]
fn logs_that_come_and_go_leave_nothing_behind() {
    let cache = cache_of(10_000);
    for log in 0..20_000 {
        cache.append(LogId(log), batch(0, 1, 100));
        cache.remove(LogId(log));
    }
    assert_eq!(cache.bytes(), 0);
    assert!(cache.0.order.lock().entries.len() <= SWEEP_ABOVE);
}

/// What a test does to the cache.
#[derive(Clone, Debug)]
enum Step {
    Append { log: u64, records: usize, bytes: usize },
    Flushed { log: u64, back: i64 },
    Shrink { bytes: usize },
    Remove { log: u64 },
    Read { log: u64, from: i64, limit: i64, max_bytes: usize, at_least_one: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let log = 0..4u64;
    prop_oneof![
        6 => (log.clone(), 1..5usize, 0..300usize)
            .prop_map(|(log, records, bytes)| Step::Append { log, records, bytes }),
        3 => (log.clone(), 0..6i64).prop_map(|(log, back)| Step::Flushed { log, back }),
        1 => (0..600usize).prop_map(|bytes| Step::Shrink { bytes }),
        1 => log.clone().prop_map(|log| Step::Remove { log }),
        4 => (log, 0..40i64, 0..60i64, 0..1500usize, any::<bool>()).prop_map(
            |(log, from, limit, max_bytes, at_least_one)| Step::Read { log, from, limit, max_bytes, at_least_one }
        ),
    ]
}

/// One list of all batches in order of append, searched from end to end.
#[derive(Default)]
struct Model {
    capacity: usize,
    batches: Vec<(u64, Batch)>,
    start: BTreeMap<u64, i64>,
    end: BTreeMap<u64, i64>,
    flushed: BTreeMap<u64, i64>,
}

impl Model {
    fn bytes(&self) -> usize {
        self.batches.iter().map(|(_, batch)| cost(batch)).sum()
    }

    fn is_flushed(&self, log: u64, batch: &Batch) -> bool {
        batch.end_offset().0 <= self.flushed.get(&log).copied().unwrap_or(0)
    }

    fn flushed_bytes(&self) -> usize {
        let flushed = self.batches.iter().filter(|(log, batch)| self.is_flushed(*log, batch));
        flushed.map(|(_, batch)| cost(batch)).sum()
    }

    fn evict_down_to(&mut self, target: usize) {
        while self.flushed_bytes() > target {
            let (log, batch) = &self.batches[0];
            if !self.is_flushed(*log, batch) {
                return;
            }
            self.start.insert(*log, batch.end_offset().0);
            self.batches.remove(0);
        }
    }

    fn append(&mut self, log: u64, batch: Batch) {
        self.start.entry(log).or_insert(batch.base_offset().0);
        self.end.insert(log, batch.end_offset().0);
        self.batches.push((log, batch));
    }

    fn remove(&mut self, log: u64) {
        self.batches.retain(|(other, _)| *other != log);
        self.start.remove(&log);
        self.flushed.remove(&log);
    }

    fn read(&self, log: u64, from: i64, limit: i64, max: usize, at_least_one: bool) -> Option<Vec<i64>> {
        if from < *self.start.get(&log)? {
            return None;
        }
        let mut bytes = 0;
        let mut found = Vec::new();
        for (_, batch) in self.batches.iter().filter(|(of, batch)| *of == log && batch.end_offset().0 > from)
        {
            bytes += batch.len();
            let fits = bytes <= max || (found.is_empty() && at_least_one);
            if batch.end_offset().0 > limit || !fits {
                break;
            }
            found.push(batch.base_offset().0);
        }
        Some(found)
    }
}

fn run(cache: &LogCache, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Append { log, records, bytes } => {
            let batch = batch(model.end.get(&log).copied().unwrap_or(0), records, bytes);
            cache.append(LogId(log), batch.clone());
            model.append(log, batch);
        }
        Step::Flushed { log, back } => {
            let end = (model.end.get(&log).copied().unwrap_or(0) - back).max(0);
            cache.flushed(LogId(log), Offset(end));
            if model.start.contains_key(&log) {
                let flushed = model.flushed.entry(log).or_insert(0);
                *flushed = end.max(*flushed);
            }
            model.evict_down_to(model.capacity);
        }
        Step::Shrink { bytes } => {
            let before = model.bytes();
            model.evict_down_to(model.flushed_bytes().saturating_sub(bytes));
            prop_assert_eq!(cache.shrink(bytes), before - model.bytes());
        }
        Step::Remove { log } => {
            cache.remove(LogId(log));
            model.remove(log);
        }
        Step::Read { log, from, limit, max_bytes, at_least_one } => {
            let read = cache.read(LogId(log), Offset(from), Offset(limit), max_bytes, at_least_one);
            prop_assert_eq!(offsets(read), model.read(log, from, limit, max_bytes, at_least_one));
        }
    }
    prop_assert_eq!(cache.bytes(), model.bytes());
    prop_assert_eq!(cache.0.flushed_bytes(), model.flushed_bytes());
    Ok(())
}

proptest! {
    #[test]
    fn the_cache_behaves_as_one_list_in_order_of_append(
        capacity in 0..4000usize,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let cache = LogCache::new(capacity, &mut Registry::default());
        let mut model = Model { capacity, ..Model::default() };
        for step in steps {
            run(&cache, &mut model, step)?;
        }
    }
}
