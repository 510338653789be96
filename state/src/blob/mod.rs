//! The checkpoint store: adapters of [`BlobStore`](millstream_runtime::ports::store::BlobStore).
//!
//! - [`object`]: over any `object_store`; S3, GCS and Azure are a constructor away
//! - [`local`]: a folder of this machine, synced, folders included
//! - [`memory`]: in memory, with faults on demand, for tests and simulations

pub mod local;
pub mod memory;
pub mod object;

pub use local::LocalBlobs;
pub use memory::{Fault, MemoryBlobs, Operation};
pub use object::ObjectBlobs;
