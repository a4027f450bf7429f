//! Which of a sequence of objects are worth merging.

use super::Sizes;
use std::ops::Range;

/// What a merge weighs of one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub bytes: u64,
    pub index: u64,
}

/// How much one merge may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub bytes: u64,
    pub index: u64,
    pub count: usize,
}

/// Runs without overlap, each worth merging, best first: most objects, then fewest bytes.
pub(super) fn worthwhile(weights: &[Weight], limits: &Limits, sizes: &Sizes) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut rest: Vec<_> = std::iter::once(0..weights.len()).collect();
    while let Some(within) = rest.pop() {
        let Some(best) = best(weights, within.clone(), limits, sizes) else { continue };
        rest.push(within.start..best.start);
        rest.push(best.end..within.end);
        found.push(best);
    }
    found.sort_by_key(|run| (std::cmp::Reverse(run.len()), run.start));
    found
}

fn best(weights: &[Weight], within: Range<usize>, limits: &Limits, sizes: &Sizes) -> Option<Range<usize>> {
    let mut best: Option<(Range<usize>, u64)> = None;
    for start in within.clone() {
        let mut run = Run::default();
        for (at, weight) in weights[start..within.end].iter().enumerate() {
            run.push(weight);
            if at >= limits.count || run.bytes > limits.bytes || run.index > limits.index {
                break;
            }
            let better = best.as_ref().is_none_or(|(best, bytes)| {
                (at + 1, std::cmp::Reverse(run.bytes)) > (best.len(), std::cmp::Reverse(*bytes))
            });
            if at > 0 && better && run.is_worthwhile(limits, sizes) {
                best = Some((start..start + at + 1, run.bytes));
            }
        }
    }
    best.map(|(run, _)| run)
}

#[derive(Default)]
struct Run {
    bytes: u64,
    index: u64,
    largest: u64,
}

impl Run {
    fn push(&mut self, weight: &Weight) {
        self.bytes = self.bytes.saturating_add(weight.bytes);
        self.index = self.index.saturating_add(weight.index);
        self.largest = self.largest.max(weight.bytes);
    }

    fn is_worthwhile(&self, limits: &Limits, sizes: &Sizes) -> bool {
        let grows = |by: u64| u128::from(self.bytes) * 100 >= u128::from(self.largest) * u128::from(by);
        let nearly = |size: u64, limit: u64| u128::from(size) * 4 >= u128::from(limit) * 3;
        let is_final = nearly(self.bytes, limits.bytes) || nearly(self.index, limits.index);
        grows(sizes.growth) || is_final && grows(sizes.final_growth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 1024, index: 1 << 20, count: 60 };

    fn runs(bytes: &[u64]) -> Vec<Range<usize>> {
        let weights: Vec<_> = bytes.iter().map(|&bytes| Weight { bytes, index: 1 }).collect();
        worthwhile(&weights, &LIMITS, &Sizes::default())
    }

    fn one(run: Range<usize>) -> Vec<Range<usize>> {
        vec![run]
    }

    #[test]
    fn eight_of_a_size_are_merged_and_seven_are_not() {
        assert_eq!(runs(&[10; 8]), one(0..8));
        assert!(runs(&[10; 7]).is_empty());
    }

    #[test]
    fn a_large_one_is_not_rewritten_for_small_neighbours() {
        assert_eq!(runs(&[500, 10, 10, 10, 10, 10, 10, 10, 10]), one(1..9));
        assert!(runs(&[500, 10, 10, 10]).is_empty());
    }

    #[test]
    fn the_last_step_to_the_largest_size_may_be_a_smaller_one() {
        assert_eq!(runs(&[200; 4]), one(0..4));
        assert!(runs(&[150; 4]).is_empty());
    }

    #[test]
    fn a_run_ends_at_the_largest_size_and_the_next_begins_behind() {
        assert_eq!(runs(&[100; 20]), [0..10, 10..20]);
    }
}
