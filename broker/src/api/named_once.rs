//! What Kafka keeps in a map by its name: requests may name it twice.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
};

/// Each key once, at the place of its first mention, of which `again` makes one with each later mention.
pub(super) fn named_once<T, K: Eq + Hash>(
    all: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
    mut again: impl FnMut(&mut T, T),
) -> Vec<T> {
    let all = all.into_iter();
    let mut places: HashMap<K, usize> = HashMap::with_capacity(all.size_hint().0);
    let mut kept: Vec<T> = Vec::with_capacity(all.size_hint().0);
    for one in all {
        match places.entry(key(&one)) {
            Entry::Occupied(place) => again(&mut kept[*place.get()], one),
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(one);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_again_joins_its_first_mention() {
        let named = [("a", vec![1]), ("b", vec![2]), ("a", vec![3])];
        let joined =
            named_once(named, |(name, _)| *name, |(_, first), (_, mut later)| first.append(&mut later));
        assert_eq!(joined, [("a", vec![1, 3]), ("b", vec![2])]);
    }
}
