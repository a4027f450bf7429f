//! Without faults, the stores of the simulation are stores like any other.

use object_store::memory::InMemory;
use std::sync::Arc;
use thalweg_simulation::{object_store::SimStore, stored::Referred, world::World};

#[tokio::test(start_paused = true)]
async fn the_object_store_conforms() {
    let world = World::new(1, false);
    let store = SimStore::new(&world, &Arc::new(InMemory::new()), &Referred::new(&world), "client");
    thalweg_segment::conformance::check_store(Arc::new(store)).await;
}
