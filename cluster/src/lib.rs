//! Links between nodes over QUIC. Knows nodes, control messages (opaque bytes) and data channels; not jobs, actors, or
//! what is in a message. Implements the transport port of `runtime`.
//!
//! | question | file |
//! |---|---|
//! | what can be set | [`Options`], `options.rs` |
//! | who may link | `certificates.rs`; a development authority: [`Authority`], `authority.rs`; what the refused are told: `alert.rs` |
//! | where randomness comes from | [`NetSeed`], `seed.rs`; the socket and QUIC's windows: `endpoint.rs`; what else comes to its port: `noise.rs` |
//! | who is linked, control messages | [`Links`], `links.rs`; when a peer is dialled again: `backoff.rs` |
//! | what two nodes tell each other first, and who is refused | `handshake.rs`, `wire/hello.rs` |
//! | which of two connections becomes the link | `pairing.rs` |
//! | heartbeats, and what ends a link | `link.rs`; what waits to be written: `outbox.rs` |
//! | how an element gets to another node | `channel/outlet.rs`, `wire/frame.rs`, `channel/inlet.rs` |
//! | how credit comes back | `credit.rs`, `outbox.rs` |
//! | which receiver gets which stream | `claims.rs` |
//!
//! Files named without `async` in mind (`pairing`, `claims`, `credit`, `backoff`, `wire/`) do no I/O and know no time.
#![deny(missing_docs)]

mod alert;
mod authority;
mod backoff;
mod certificates;
mod channel;
mod claims;
mod credit;
mod endpoint;
mod error;
mod handshake;
mod link;
mod links;
mod noise;
mod options;
mod outbox;
mod pairing;
mod seed;
#[cfg(test)]
mod tests;
mod wire;

pub use authority::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority, NodeFiles};
pub use backoff::BackoffOptions;
pub use certificates::{Certificates, NODE_NAME, PemCertificates};
pub use endpoint::udp_socket;
pub use error::Error;
pub use links::{Identity, LinkEvent, LinkEvents, Links, Setup};
pub use options::Options;
pub use seed::NetSeed;
