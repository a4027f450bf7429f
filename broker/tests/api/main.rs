//! The APIs, each driven through whole frames as from a socket, on a broker in memory.

mod bed;
mod catalogue;
mod versions;
