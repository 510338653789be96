//! Certificates for nodes of one host that have none: from an authority that lies in the folder of the first node, so that
//! `millstream certs` can make more of them for nodes that join later.

use std::path::Path;

use millstream_actors::world::SystemClock;
use millstream_cluster::{AUTHORITY_CERTIFICATE, Authority, Certificates};
use millstream_config::{NodeSettings, keys};
use millstream_runtime::ports::Clock;

use crate::error::{Error, Result};

/// Below the folder of the first node.
const FOLDER: &str = "certificates";
/// Days that a certificate is valid; one that no longer is, is made anew.
const DAYS: u32 = 365;

/// A node by name, with its settings.
pub(super) struct Holder {
    pub name: String,
    pub settings: NodeSettings,
}

/// For each node the settings that name its certificate; none for a node that has one of its own.
pub(super) fn make(nodes: &[Holder]) -> Result<Vec<Vec<String>>> {
    let has_own = |node: &&Holder| node.settings.certificates.is_some();
    let Some(first) = nodes.first().filter(|_| !nodes.iter().all(|node| has_own(&node))) else {
        return Ok(vec![Vec::new(); nodes.len()]);
    };
    if let Some(node) = nodes.iter().find(has_own) {
        return Err(Error::usage(format!(
            "node {} has a certificate of its own and others have none: give all of them one, or none",
            node.name
        )));
    }
    let folder = first.settings.folder.join(FOLDER);
    let now_ms = SystemClock.now_ms();
    let unusable = |error: millstream_cluster::Error| Error::usage(error.to_string());
    let authority = Authority::of_folder(&folder, now_ms).map_err(unusable)?;
    let authority_file = folder.join(AUTHORITY_CERTIFICATE);
    let of_node = |node: &Holder| {
        let (certificate, key) = (folder.join(format!("{}.pem", node.name)), folder.join(format!("{}.key", node.name)));
        if Certificates::load(&authority_file, &certificate, &key, now_ms).is_err() {
            // Of an earlier start, and expired or damaged; what is not there need not be removed.
            let _ = (std::fs::remove_file(&certificate), std::fs::remove_file(&key));
            authority.issue_files(&folder, &node.name, now_ms, DAYS).map_err(unusable)?;
        }
        let flag = |key: &str, path: &Path| format!("{key}={}", path.display());
        Ok(vec![
            flag(keys::CERTIFICATE_FILE.name, &certificate),
            flag(keys::KEY_FILE.name, &key),
            flag(keys::AUTHORITY_FILE.name, &authority_file),
        ])
    };
    nodes.iter().map(of_node).collect()
}
