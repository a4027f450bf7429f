//! For each key, the offset of its last record. A table of fixed size without the keys themselves.
//!
//! A slot is two words: 64 bits of the key's hash, then 24 more above 40 bits of offset, counted from where the table begins
//! plus 1, so that an empty slot is one without an offset. The place of a slot comes from bits of the hash that
//! are not stored: a slot's neighbours aside, all 128 bits decide whether two keys are the same. The hash (XXH3) is seeded at random,
//! so nobody can prepare keys that collide; that two of 10⁹ do by chance has a probability below 10⁻¹³.

use thalweg_segment::Offset;
use twox_hash::XxHash3_128;

/// Bytes of a slot.
const SLOT_BYTES: usize = size_of::<Slot>();
const OFFSET_BITS: u32 = 40;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    /// 24 more bits of the hash, then the offset.
    rest: u64,
}

/// Offsets by key.
pub struct KeyMap {
    slots: Vec<Slot>,
    /// Keys that it takes at most.
    limit: usize,
    len: usize,
    base: Offset,
    seed: u64,
}

impl KeyMap {
    /// A table of about `bytes` bytes, no larger than `keys` keys need, of which `load` (0 to 1) may be full. It holds offsets
    /// from `base` on.
    pub fn new(bytes: usize, keys: u64, load: f64, base: Offset, seed: u64) -> Self {
        let slots = Self::memory(bytes, keys, load) / SLOT_BYTES;
        // One slot stays empty, so that every search ends.
        let limit = ((slots as f64 * load.clamp(0.1, 0.95)) as usize).clamp(1, slots - 1);
        Self { slots: vec![Slot::default(); slots], limit, len: 0, base, seed }
    }

    /// Bytes that [`KeyMap::new`] takes with the same arguments.
    pub fn memory(bytes: usize, keys: u64, load: f64) -> usize {
        let wanted = (keys as f64 / load.clamp(0.1, 0.95)).ceil() as usize;
        bytes.min(wanted.saturating_add(1).saturating_mul(SLOT_BYTES)).max(2 * SLOT_BYTES)
    }

    /// Notes that the last record of `key` is at `offset`. False where there is no room for it.
    pub fn insert(&mut self, key: &[u8], offset: Offset) -> bool {
        let Some(stored) = self.stored(offset) else { return false };
        let (place, hash, tag) = self.hash(key);
        match self.find(place, hash, tag) {
            Ok(found) => self.slots[found].rest = tag << OFFSET_BITS | stored,
            Err(_) if self.len == self.limit => return false,
            Err(empty) => {
                self.slots[empty] = Slot { hash, rest: tag << OFFSET_BITS | stored };
                self.len += 1;
            }
        }
        true
    }

    /// The offset noted for `key`.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (place, hash, tag) = self.hash(key);
        let found = self.find(place, hash, tag).ok()?;
        Some(self.base.plus((self.slots[found].rest & OFFSET_MASK) as i64 - 1))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// An offset as it is stored: none where it is too far from the first.
    fn stored(&self, offset: Offset) -> Option<u64> {
        let distance = u64::try_from(offset.0.checked_sub(self.base.0)?).ok()?;
        (distance < OFFSET_MASK).then_some(distance + 1)
    }

    /// Where the search for a key begins, and by what it is told from others.
    fn hash(&self, key: &[u8]) -> (usize, u64, u64) {
        let hash = XxHash3_128::oneshot_with_seed(self.seed, key);
        let (high, low) = ((hash >> 64) as u64, hash as u64);
        let place = ((u128::from(low) * self.slots.len() as u128) >> 64) as usize;
        (place, high, low & 0xff_ffff)
    }

    /// The slot of a key, or else the empty one where it would go.
    fn find(&self, place: usize, hash: u64, tag: u64) -> Result<usize, usize> {
        let mut at = place;
        loop {
            let slot = &self.slots[at];
            if slot.rest == 0 {
                return Err(at);
            }
            if slot.hash == hash && slot.rest >> OFFSET_BITS == tag {
                return Ok(at);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_knows_the_last_offset_of_each_key_until_it_is_full(
            keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..300),
            slots in 2usize..200,
            base in 0i64..1 << 60,
            seed in any::<u64>(),
        ) {
            let mut map = KeyMap::new(slots * SLOT_BYTES, u64::MAX, 0.9, Offset(base), seed);
            let mut model = HashMap::new();
            for (at, key) in keys.iter().enumerate() {
                let offset = Offset(base + 3 * at as i64);
                let fits = model.contains_key(key) || model.len() < map.limit;
                prop_assert_eq!(map.insert(key, offset), fits);
                if fits {
                    model.insert(key.clone(), offset);
                }
            }
            prop_assert_eq!(map.len(), model.len());
            for key in &keys {
                prop_assert_eq!(map.get(key), model.get(key).copied());
            }
        }
    }

    #[test]
    fn an_offset_too_far_from_the_first_does_not_fit() {
        let mut map = KeyMap::new(1024, u64::MAX, 0.9, Offset(5), 0);
        assert!(map.insert(b"near", Offset(5 + (1 << 40) - 2)));
        assert!(!map.insert(b"far", Offset(5 + (1 << 40) - 1)));
        assert_eq!(map.get(b"near"), Some(Offset(5 + (1 << 40) - 2)));
    }

    #[test]
    fn it_takes_no_more_memory_than_its_keys_need() {
        assert_eq!(KeyMap::new(1 << 30, 10, 1.0, Offset(0), 0).slots.len(), 12);
        assert_eq!(KeyMap::memory(1 << 30, 10, 1.0), 12 * SLOT_BYTES);
        assert_eq!(KeyMap::memory(160, 1 << 40, 0.9), 160);
        let mut small = KeyMap::new(0, 0, 0.9, Offset(0), 0);
        assert!(small.insert(b"one", Offset(0)), "a round always gets on");
    }
}
