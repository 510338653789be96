//! The commands that start nodes: `node` runs one in this process, `cluster` starts all of a file as processes.

use millstream_config::node::load_cluster;
use millstream_config::{Configuration, Loaded, load};

use super::arguments::{Cluster, Node};
use super::{Failure, sources, start_logging};
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::launcher::{self, Ending};
use crate::node;
use crate::run::screen::Screen;

/// All nodes have ended.
const GONE: u8 = 1;

pub(super) fn cluster(cluster: Cluster) -> Result<u8, Failure> {
    let Cluster { config, define, no_restart, log, json } = cluster;
    let request = launcher::Request { sources: sources(Some(config), define), restart: !no_restart, log, json };
    Ok(match launcher::run(&request, &Screen::new())? {
        Ending::Told => 0,
        Ending::NotStarted(code) => code,
        Ending::AllGone => GONE,
    })
}

pub(super) fn node(node: Node, jobs: Vec<Job>) -> Result<(), Failure> {
    let screen = Screen::new();
    let configuration = configuration_of(&node, &screen)?;
    start_logging(&configuration, node.log.as_deref(), &screen)?;
    let request = node::Request { configuration, jobs, until_stdin_closes: node.until_stdin_closes };
    Ok(node::run(request, &screen)?)
}

/// The configuration of one node, alone in its file or among others.
fn configuration_of(node: &Node, screen: &Screen) -> Result<Configuration> {
    let sources = sources(node.settings.config.clone(), node.settings.define.clone());
    let unusable = |error: millstream_config::Error| Error::usage(error.to_string());
    let warn = |warning: &millstream_config::Warning| screen.message(&format!("warning: {warning}"));
    let Some(name) = &node.name else {
        let Loaded { configuration, warnings } = load(&sources).map_err(unusable)?;
        if configuration.iter().any(|(key, _)| key.starts_with("nodes.")) {
            return Err(Error::usage("the file describes a cluster: say with --name which of its nodes this is"));
        }
        warnings.iter().for_each(warn);
        return Ok(configuration);
    };
    let cluster = load_cluster(&sources).map_err(unusable)?;
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    let unknown = || Error::usage(format!("the file has no node '{name}'; it has: {}", names.join(", ")));
    let found = cluster.nodes.iter().find(|node| node.name == *name);
    found.map(|node| node.configuration.clone()).ok_or_else(unknown)
}
