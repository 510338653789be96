//! The command `certs`: certificates for the nodes of a cluster, from an authority of its own.

use millstream_actors::world::SystemClock;
use millstream_cluster::Authority;
use millstream_runtime::ports::Clock;

use super::arguments::Certs;
use super::{Failure, print};
use crate::error::Error;

/// Makes the authority unless it is there, and a certificate for each node.
pub(super) fn make(certs: &Certs) -> Result<(), Failure> {
    let now_ms = SystemClock.now_ms();
    let refused = |error: millstream_cluster::Error| Failure::from(Error::usage(error.to_string()));
    let authority = Authority::of_folder(&certs.output, now_ms).map_err(refused)?;
    for node in &certs.nodes {
        let files = authority.issue_files(&certs.output, node, now_ms, certs.days).map_err(refused)?;
        print(&format!("{node}: {} {}\n", files.certificate.display(), files.key.display()))?;
    }
    Ok(())
}
