//! Log compaction: of all records with the same key, the last one is enough (`cleanup.policy=compact`). Kafka's rules.
//!
//! ```text
//!   start          cleaned to                    end              last stable offset
//!     |    clean       |          dirty           |   not yet            |
//! ```
//! A *round* of one log (`plan`) has two passes over its log segments. The first (`mapping`) reads the dirty part and notes, for
//! each key, the offset of its last record (`key_map`). The second (`filter`) reads everything from the start on and writes what is to
//! stay (`rewrite`): records keep their offsets, so there are holes from then on. Groups of adjacent segments become one segment each, and
//! each group is a commit of its own, in rising order. How far the log is cleaned stands in the record of the last of them. So after a
//! crash in between the round is done again, and finds a log in which some superseded records are gone already.
//!
//! What stays, beside the last record of each key:
//! - *Tombstones* (records without a value) for `delete.retention.ms` from the round on that meets them first: readers who are at it must
//!   learn that the key is gone. The time when it may go is the *delete horizon*, and stands in the batch in place of its base timestamp
//!   (KIP-534).
//! - *Markers* until every batch of their transaction is gone, and then as long as a tombstone. Data of aborted transactions goes at once.
//! - *The last batch of each producer* that the log knows, if only as a header: other brokers and tools find its last sequence number there.
//!   (This one has it in the state blocks, which rewrites keep as they are.)
//! - *The last batch of each segment*, if only as a header: a reader who is at the end of a hole must be able to get past it. And *the
//!   first one* (which Kafka lets go), as a header that is no producer's: so a segment says itself for which offsets it stands, should the
//!   index be lost.
//!
//! Records without a key, which the log may have from before it was compacted, go.
//!
//! Nothing at or behind the last stable offset is looked at: all transactions that are met are decided.
//!
//! # Why a table in passes, and not sorted runs
//! The table has a bound (`log.cleaner.dedupe.buffer.size`). When it is full, the round ends there and the next goes on. Sorting the
//! keys of the whole dirty part outside of memory would need one rewrite whatever their number, but a place for the runs: a broker has
//! no disk that counts, and in the bucket each run is written and read once more. A key takes 16 bytes of the table (see
//! `key_map`), against the 24 of Kafka's, so 128 MiB hold 7.5 million keys at a load of 0.9. What a log of 10⁹ keys costs is then up to
//! 130 rounds, each a rewrite of the log, when *all* keys have changed; but then a table of 16 GiB does it in one, and half of the
//! dirty part is needed before a round begins, so that a round's cost is no more than twice what it frees. The setting decides.

mod filter;
mod key_map;
mod mapping;
#[cfg(test)]
mod plain;
mod plan;
mod records;
mod rewrite;
#[cfg(test)]
mod rewrite_tests;
#[cfg(test)]
mod tests;
mod transactions;

pub use filter::{Edge, Filter, FilterSettings, LastBatches, Tally};
pub use key_map::KeyMap;
pub use mapping::{Mapped, Mapping};
pub use plan::{CleanSettings, Cleanable, LogToClean, groups};
pub use records::{CleanError, RecordCodec, RecordKey};
pub use rewrite::{Round, clean_group, first_timestamp, map_dirty};
