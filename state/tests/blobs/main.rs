//! The contract of `BlobStore` over every adapter (a folder, memory, S3), and what is particular to S3: multipart,
//! permissions, retries, and outcomes that are not known.

#[path = "../support/s3_server.rs"]
mod s3_server;

mod contract;
mod denied;
mod unreliable;
