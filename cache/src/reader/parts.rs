//! Parts of objects under way: one GET for all small blocks of a part, whoever wants one of them (see `blocks_beside`).
//!
//! Like the GETs of whole blocks, these are polled by those who wait, and fail for all of them or for none. What nobody has
//! asked for yet goes into the cache with the rest: those who read the neighbouring logs come next.

use super::blocks::Inner;
use bytes::Bytes;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use thalweg_metadata::{BlockRef, IndexError, PartKey};
use thalweg_segment::{FormatError, ReadError};

/// The blocks of one part by their positions, each checked by itself; or why none of them could be read.
type Landed = Arc<Result<BTreeMap<u64, Result<Bytes, Arc<ReadError>>>, Arc<ReadError>>>;
pub(super) type PartFlight = Shared<BoxFuture<'static, Landed>>;

/// The GETs of parts that are under way.
#[derive(Default)]
pub(super) struct PartFlights(Mutex<Flying>);

#[derive(Default)]
struct Flying {
    by_part: BTreeMap<PartKey, (u64, WeakShared<BoxFuture<'static, Landed>>)>,
    /// Tells a GET from a later one of the same part.
    ids: u64,
}

/// Where a small block comes from.
pub(super) enum PartSource {
    Cached(Bytes),
    Flying(PartFlight),
}

impl Inner {
    /// Joins the GET of `part` that is under way, or begins it. `block` lies in it, and was not in the cache a moment ago.
    pub(super) fn board_part(self: &Arc<Self>, part: PartKey, block: &BlockRef) -> PartSource {
        let mut flying = self.parts.0.lock();
        if let Some(flight) = flying.by_part.get(&part).and_then(|(_, flight)| flight.upgrade()) {
            return PartSource::Flying(flight);
        }
        // A GET puts its blocks into the cache before it leaves the map; one may have done both since we looked.
        if let Some(bytes) = self.cached(block) {
            return PartSource::Cached(bytes);
        }
        flying.ids += 1;
        let id = flying.ids;
        let seat = Seat { inner: self.clone(), id, part: part.clone() };
        let flight = fly(seat, block.clone()).boxed().shared();
        let weak = flight.downgrade().expect("a future that was never polled has not ended");
        flying.by_part.insert(part, (id, weak));
        PartSource::Flying(flight)
    }
}

/// One GET for the part that `block` lies in. The seat is given up when it ends, or when nobody waits for it any more.
async fn fly(seat: Seat, block: BlockRef) -> Landed {
    let inner = &seat.inner;
    let landed = match inner.index.blocks_beside(&block).await {
        Ok(blocks) => {
            let positions: Vec<_> = blocks.iter().map(|block| block.entry.position).collect();
            let landed = inner.bring_part(blocks).await;
            Ok(positions.into_iter().zip(landed).collect())
        }
        Err(error) => Err(error),
    };
    drop(seat);
    Arc::new(landed)
}

/// A block of a part that has arrived.
pub(super) async fn block_of(flight: PartFlight, block: &BlockRef) -> Result<Bytes, IndexError> {
    match &*flight.await {
        Ok(blocks) => match blocks.get(&block.entry.position) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(error)) => Err(IndexError::for_another(error)),
            None => {
                let source = FormatError::Malformed { what: "index: a block is not in its part" };
                Err(ReadError::Format { path: block.path.clone(), source }.into())
            }
        },
        Err(error) => Err(IndexError::for_another(error)),
    }
}

/// The place of a GET among those under way. Dropping it gives it up, unless another GET has it by now.
struct Seat {
    inner: Arc<Inner>,
    id: u64,
    part: PartKey,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flying = self.inner.parts.0.lock();
        if flying.by_part.get(&self.part).is_some_and(|(id, _)| *id == self.id) {
            flying.by_part.remove(&self.part);
        }
    }
}
