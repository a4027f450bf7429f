//! The APIs, each driven through whole frames as from a socket, on a broker in memory.

mod admin;
mod admin_apis;
mod admin_catalogue;
mod bed;
mod catalogue;
mod consumer_groups;
mod fsck;
mod groups;
mod log_compaction;
mod object_compaction;
mod oddities;
mod produce;
mod retention;
mod side_by_side;
mod transaction_requests;
mod transactions;
mod versions;
