//! Certificates for nodes of one host that have none: from an authority that lies in the folder of the first node, so that
//! `millstream certs` can make more of them for nodes that join later.

use std::path::Path;

use millstream_actors::world::SystemClock;
use millstream_cluster::{AUTHORITY_CERTIFICATE, AUTHORITY_KEY, Authority, Certificates};
use millstream_config::keys;
use millstream_config::node::ClusterNode;
use millstream_runtime::ports::Clock;

use super::folder_of;
use crate::error::{Error, Result};

/// Below the folder of the first node.
const FOLDER: &str = "certificates";
/// Days that a certificate is valid; one that no longer is, is made anew.
const DAYS: u32 = 365;

/// For each node the settings that name its certificate; none for a node that has one of its own.
pub(super) fn make(nodes: &[ClusterNode]) -> Result<Vec<Vec<String>>> {
    let has_own = |node: &ClusterNode| node.configuration.setting(keys::CERTIFICATE_FILE.name).is_some();
    let Some(first) = nodes.first().filter(|_| !nodes.iter().all(has_own)) else {
        return Ok(vec![Vec::new(); nodes.len()]);
    };
    if let Some(node) = nodes.iter().find(|node| has_own(node)) {
        return Err(Error::usage(format!(
            "node {} has a certificate of its own and others have none: give all of them one, or none",
            node.name
        )));
    }
    let folder = folder_of(first).join(FOLDER);
    let now_ms = SystemClock.now_ms();
    let unusable = |error: millstream_cluster::Error| Error::usage(error.to_string());
    let authority = if folder.join(AUTHORITY_KEY).exists() {
        Authority::load(&folder).map_err(unusable)?
    } else {
        let authority = Authority::create(now_ms).map_err(unusable)?;
        authority.save(&folder).map_err(unusable)?;
        authority
    };
    let authority_file = folder.join(AUTHORITY_CERTIFICATE);
    let of_node = |node: &ClusterNode| {
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
