//! The checkpoint store: adapters of [`BlobStore`](millstream_runtime::ports::store::BlobStore).
//!
//! - [`location`]: where a store is, as users write it
//! - [`stores`]: opening what is there, and finding out before a job starts whether it can be used
//! - [`local`]: a folder of this machine, synced, folders included
//! - [`s3`]: a place in a bucket; [`http`] is its transport
//! - [`object`]: what both have in common, over any `object_store`; [`answer`] makes sense of errors
//! - [`troubled`]: any of them slow, failing or full while a test says so
//! - [`memory`]: in memory, with faults on demand, for tests and simulations

mod answer;
mod http;
pub mod local;
pub mod location;
pub mod memory;
pub mod object;
pub mod s3;
pub mod stores;
pub mod troubled;

pub use http::Retries;
pub use local::LocalBlobs;
pub use location::Location;
pub use memory::{Fault, MemoryBlobs, Operation};
pub use object::ObjectBlobs;
pub use s3::S3Options;
pub use stores::Stores;
pub use troubled::{Switch, Trouble};
