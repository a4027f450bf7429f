//! What connections may do: how many, how large their frames, how long they may be silent.

use crate::broker::Budgets;
use parking_lot::Mutex;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

/// Settings of the network layer.
#[derive(Clone)]
pub struct NetSettings {
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `connections.max.idle.ms`: a connection on which nothing moves for this long is closed.
    pub max_idle: Duration,
    /// `socket.request.max.bytes`: the largest Produce request.
    pub max_produce_frame: usize,
    /// The largest request of any other kind. Such a request is decoded into many small objects, so a large one would cost a
    /// multiple of its size.
    pub max_other_frame: usize,
    /// Requests of one connection that may be unanswered.
    pub max_in_flight: usize,
    /// The memory that requests and responses are charged to.
    pub budgets: Budgets,
}

/// Counts open connections, in all and by address.
#[derive(Clone, Default)]
pub struct ConnectionLimits(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// The place of one open connection; free again when dropped.
pub struct Place {
    limits: ConnectionLimits,
    address: IpAddr,
}

impl ConnectionLimits {
    /// A place for a connection from `address`, or the name of the setting that leaves none.
    pub fn enter(&self, address: IpAddr, settings: &NetSettings) -> Result<Place, &'static str> {
        let mut counts = self.0.lock();
        if counts.all >= settings.max_connections {
            return Err("max.connections");
        }
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if here >= settings.max_connections_per_ip {
            return Err("max.connections.per.ip");
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        Ok(Place { limits: self.clone(), address })
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        self.0.lock().all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.limits.0.lock();
        counts.all -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}
