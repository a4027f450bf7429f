//! Which offsets of one log are covered.

use std::collections::BTreeMap;
use thalweg_segment::Offset;

/// Ranges of offsets, neither overlapping nor touching: end by base.
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<Offset, Offset>);

impl Spans {
    /// Adds a half-open range.
    pub fn add(&mut self, base: Offset, end: Offset) {
        let (mut base, mut end) = (base, end);
        while let Some((from, to)) = self.0.range(..=end).next_back().map(|(from, to)| (*from, *to)) {
            if to < base {
                break;
            }
            self.0.remove(&from);
            (base, end) = (base.min(from), end.max(to));
        }
        self.0.insert(base, end);
    }

    /// Whether all of a half-open range is covered.
    pub fn cover(&self, base: Offset, end: Offset) -> bool {
        base >= end || self.0.range(..=base).next_back().is_some_and(|(_, to)| *to >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_range_is_covered_where_each_of_its_offsets_is(
            added in prop::collection::vec((0..30_i64, 1..8_i64), 0..10),
            (base, length) in (0..35_i64, 0..8_i64),
        ) {
            let mut spans = Spans::default();
            added.iter().for_each(|(base, length)| spans.add(Offset(*base), Offset(base + length)));
            let holds = |offset| added.iter().any(|(base, length)| *base <= offset && offset < base + length);
            prop_assert_eq!(spans.cover(Offset(base), Offset(base + length)), (base..base + length).all(holds));
            let apart: Vec<_> = spans.0.iter().collect();
            prop_assert!(apart.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
