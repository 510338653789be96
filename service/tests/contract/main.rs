//! The contract of every endpoint: path, parameters, status code and fields, against a cluster that is plain data.
//! Requests go through a real socket.

#![allow(clippy::unwrap_used)]

mod client;
mod cluster;
mod fake;
mod jars;
mod jobs;
mod leading;
mod triggers;
