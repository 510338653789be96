//! What the process of a node is told: who it is, what it does, where it listens, whom it trusts, and what a cluster on one
//! host consists of. Keys become typed settings here; the commands `node` and `cluster` use nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::choice::HighAvailability;
use crate::configuration::{Configuration, Origin};
use crate::error::Error;
use crate::keys;
use crate::layers::{Loaded, Sources, load};
use crate::value::{Labels, Roles};

/// In a cluster file, what settings of one node begin with: `nodes.NAME.KEY`.
const NODES: &str = "nodes.";

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its name; without one it is called by the id of its folder.
    pub name: Option<String>,
    /// What it does.
    pub roles: Roles,
    /// Subtasks of each vertex that it can run at the same time; 0 for a node that is no task manager.
    pub slots: u32,
    /// For placement.
    pub labels: Labels,
    /// Its folder: that of its name below `out` unless it is set.
    pub folder: PathBuf,
    /// Address and port at which others reach it, as they are written to others.
    pub address: String,
    /// Address that it listens at.
    pub bind_address: String,
    /// Where job managers are found, as `host:port`.
    pub job_managers: Vec<String>,
    /// PEM files; without them a node has no part in a cluster of several hosts.
    pub certificates: Option<Certificates>,
    /// How nodes find out that one is lost.
    pub heartbeat: Heartbeat,
    /// What survives the loss of every process.
    pub high_availability: Option<HighAvailabilitySettings>,
}

/// Whom a node trusts and what it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// Its certificate, with what leads up to the authority.
    pub certificate: PathBuf,
    /// The key of its certificate.
    pub key: PathBuf,
    /// The authority that signed the certificates of all nodes.
    pub authority: PathBuf,
}

/// Signs of life between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Between two.
    pub interval: Duration,
    /// Without one a node is lost.
    pub timeout: Duration,
}

/// A cluster whose leader may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighAvailabilitySettings {
    /// Where the log of the cluster lies: the configured place and the cluster's own name below it.
    pub storage: String,
    /// How long a leader may not be heard of.
    pub lease: Duration,
}

impl NodeSettings {
    /// The settings of a node.
    ///
    /// # Errors
    /// When settings contradict each other or one that is needed is missing.
    pub fn of(configuration: &Configuration) -> Result<Self, Error> {
        let roles = configuration.get(&keys::NODE_ROLES);
        let address = configuration.get(&keys::NODE_ADDRESS);
        let job_managers: Vec<String> = configuration.get(&keys::JOB_MANAGERS).map(|list| list.0).unwrap_or_default();
        if !roles.job_manager && job_managers.is_empty() {
            return Err(Error::missing(keys::JOB_MANAGERS.name, "a node without the role job-manager must know one"));
        }
        for place in job_managers.iter().chain([&address]) {
            if place.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                return Err(Error::Contradiction(format!("'{place}' is not of the form host:port")));
            }
        }
        let heartbeat = Heartbeat {
            interval: configuration.get(&keys::HEARTBEAT_INTERVAL),
            timeout: configuration.get(&keys::HEARTBEAT_TIMEOUT),
        };
        if heartbeat.interval.is_zero() || heartbeat.timeout < heartbeat.interval * 2 {
            return Err(Error::Contradiction(format!(
                "{} must be at least twice {}, which must not be 0: a single sign of life that is late would be the end of a node",
                keys::HEARTBEAT_TIMEOUT.name,
                keys::HEARTBEAT_INTERVAL.name
            )));
        }
        let name: Option<String> = configuration.get(&keys::NODE_NAME);
        let folder = || Path::new("out").join(name.as_deref().unwrap_or("node"));
        Ok(Self {
            folder: configuration.get(&keys::WORKING_DIR).map_or_else(folder, PathBuf::from),
            name,
            slots: if roles.task_manager { configuration.get(&keys::TASK_SLOTS).0 } else { 0 },
            roles,
            labels: configuration.get(&keys::NODE_LABELS),
            bind_address: configuration.get(&keys::NODE_BIND_ADDRESS).unwrap_or_else(|| address.clone()),
            address,
            job_managers,
            certificates: certificates(configuration)?,
            heartbeat,
            high_availability: high_availability(configuration)?,
        })
    }
}

fn certificates(configuration: &Configuration) -> Result<Option<Certificates>, Error> {
    let of = |key: &keys::Key<Option<String>>| configuration.get(key).map(PathBuf::from);
    match (of(&keys::CERTIFICATE_FILE), of(&keys::KEY_FILE), of(&keys::AUTHORITY_FILE)) {
        (Some(certificate), Some(key), Some(authority)) => Ok(Some(Certificates { certificate, key, authority })),
        (None, None, None) => Ok(None),
        _ => Err(Error::Contradiction(format!(
            "{}, {} and {} are set together or not at all",
            keys::CERTIFICATE_FILE.name,
            keys::KEY_FILE.name,
            keys::AUTHORITY_FILE.name
        ))),
    }
}

fn high_availability(configuration: &Configuration) -> Result<Option<HighAvailabilitySettings>, Error> {
    if configuration.get(&keys::HIGH_AVAILABILITY) == HighAvailability::None {
        return Ok(None);
    }
    let place = configuration.get(&keys::HA_STORAGE_DIR).ok_or_else(|| {
        Error::missing(keys::HA_STORAGE_DIR.name, "high availability needs a store that outlives every node")
    })?;
    let cluster = configuration.get(&keys::HA_CLUSTER_ID);
    let cluster = cluster.trim_matches('/');
    let lease = configuration.get(&keys::HA_LEASE);
    if lease < Duration::from_millis(100) {
        return Err(Error::Contradiction(format!("{} must be at least 100 ms", keys::HA_LEASE.name)));
    }
    Ok(Some(HighAvailabilitySettings { storage: format!("{}/{cluster}", place.trim_end_matches('/')), lease }))
}

/// A node of a cluster file.
#[derive(Clone, Debug)]
pub struct ClusterNode {
    /// Its name in the file.
    pub name: String,
    /// Everything that holds for it: what the file says of all nodes, and of this one.
    pub configuration: Configuration,
}

/// A cluster that one file describes.
#[derive(Clone, Debug)]
pub struct ClusterFile {
    /// The nodes, in order of their names.
    pub nodes: Vec<ClusterNode>,
    /// What the author of the file should know.
    pub warnings: Vec<crate::Warning>,
}

/// Reads a cluster file: keys that hold for all nodes, and a table `[nodes.NAME]` for each.
///
/// # Errors
/// When the file cannot be read, names no node, or a value is not of the form of its key.
pub fn load_cluster(sources: &Sources) -> Result<ClusterFile, Error> {
    let Loaded { configuration, warnings } = load(sources)?;
    let file = sources.file.clone().unwrap_or_default();
    let mut names: Vec<&str> =
        configuration.iter().filter_map(|(key, _)| node_key(key)).map(|(name, _)| name).collect();
    names.dedup();
    if names.is_empty() {
        return Err(Error::NoNodes { file });
    }
    let mut all_warnings: Vec<_> = warnings.into_iter().filter(|warning| node_key(warning.key()).is_none()).collect();
    let mut nodes = Vec::new();
    for name in names {
        let (node, warnings) = one_node(&configuration, name, &file)?;
        nodes.push(ClusterNode { name: name.to_string(), configuration: node });
        all_warnings.extend(warnings);
    }
    Ok(ClusterFile { nodes, warnings: all_warnings })
}

/// A node's configuration: what holds for all, and then its own.
fn one_node(all: &Configuration, name: &str, file: &Path) -> Result<(Configuration, Vec<crate::Warning>), Error> {
    let mut node = Configuration::default();
    let mut warnings = Vec::new();
    for (key, setting) in all.iter().filter(|(key, _)| !key.starts_with(NODES)) {
        node.set(key, &setting.value, setting.origin.clone())?;
    }
    node.set(keys::NODE_NAME.name, name, Origin::File(file.to_path_buf()))?;
    for (key, setting) in all.iter() {
        let Some((_, own)) = node_key(key).filter(|(of, _)| *of == name) else { continue };
        if keys::find(own).is_none() {
            warnings.push(crate::Warning::about(own, &setting.origin));
        }
        node.set(own, &setting.value, setting.origin.clone())?;
    }
    Ok((node, warnings))
}

/// The name of the node and the key that is set for it.
fn node_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(NODES)?.split_once('.')
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
