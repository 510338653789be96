//! The command line as clap reads it. Private: programs that link Millstream see none of its types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use millstream_runtime::ids::VertexId;
use millstream_runtime::job::ParallelismBounds;

const EXIT_CODES: &str = "\
Exit codes: 0 finished, or stopped with a savepoint; 1 the job failed; 2 wrong usage or configuration; 3 input or state
refused; 4 no cluster answers; 130 ended by a second Ctrl-C.";

/// A stateful stream processor: exactly once, event time, one binary.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// Without a command the first job is run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a job in this process until it ends or is stopped.
    Run(Run),
    /// List the jobs of this program.
    Jobs {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make sample data.
    Generate {
        #[command(subcommand)]
        what: Generate,
    },
    /// Start a cluster on this host, every node a process, and run it until it is stopped.
    Cluster(Cluster),
    /// Run one node of a cluster.
    Node(Node),
    /// Make certificates for the nodes of a cluster, and the authority that signs them if there is none.
    Certs(Certs),
    /// Submit a job of this program to a cluster; prints the id of the job.
    Submit(Submit),
    /// List the jobs of a running program.
    List(Remote),
    /// List the nodes of a cluster that run jobs, with their slots.
    Nodes(Remote),
    /// Show a job with its vertices and checkpoints.
    Describe(OfJob),
    /// Make a checkpoint now and wait for it.
    Checkpoint(OfJob),
    /// Make a savepoint of a job, or look into one.
    Savepoint(Savepoint),
    /// Stop a job with a savepoint.
    Stop(Stop),
    /// Run a job of a cluster at another parallelism from now on.
    Rescale(Rescale),
    /// Cancel a job, without a savepoint.
    Cancel(OfJob),
    /// Print a table that a job has written, a row a line.
    Table {
        /// Its folder.
        path: PathBuf,
        /// Print each row as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Default, Args)]
pub(super) struct Run {
    /// Name of the job, see `jobs`.
    pub job: Option<String>,
    #[command(flatten)]
    pub settings: Settings,
    /// Number of subtasks of each operator (parallelism.default).
    #[arg(short, long, value_name = "N")]
    pub parallelism: Option<String>,
    /// Start from this savepoint or checkpoint (execution.state-recovery.path).
    #[arg(short = 's', long = "savepoint", value_name = "PATH", conflicts_with = "fresh")]
    pub savepoint: Option<String>,
    /// Leave behind state that no operator of the job claims.
    #[arg(short = 'n', long)]
    pub allow_non_restored_state: bool,
    /// Start anew: remove output and state of earlier runs first.
    #[arg(long)]
    pub fresh: bool,
    /// What is logged on standard error: error, warn, info, debug, trace, also by module (`info,millstream_state=debug`).
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Print the outcome as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Options of the job.
    #[arg(last = true, value_name = "JOB OPTIONS")]
    pub options: Vec<String>,
}

#[derive(Debug, Default, Args)]
pub(super) struct Settings {
    /// Configuration file (TOML with Flink's keys).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set a key of the configuration; wins over file and environment.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Rescale {
    #[command(flatten)]
    pub job: OfJob,
    /// Number of subtasks of each vertex of which the job does not set it itself.
    #[arg(short, long, value_name = "N", required_unless_present = "vertex")]
    pub parallelism: Option<u32>,
    /// Number of subtasks of a vertex, by its id; or at least and at most, as `ID=MIN..MAX`. May be repeated; the others keep
    /// theirs, unless -p is given.
    #[arg(long, value_name = "ID=N", value_parser = vertex)]
    pub vertex: Vec<VertexParallelism>,
}

/// A vertex with its subtasks, at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VertexParallelism {
    pub id: VertexId,
    pub bounds: ParallelismBounds,
}

fn vertex(text: &str) -> Result<VertexParallelism, String> {
    let (id, subtasks) = text.split_once('=').ok_or("a vertex and its subtasks are given as ID=N or ID=MIN..MAX")?;
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| format!("'{text}' is no number of subtasks"));
    let (lower, upper) = match subtasks.split_once("..") {
        Some((lower, upper)) => (number(lower)?, number(upper)?),
        None => (1, number(subtasks)?),
    };
    let id = id.trim().parse()?;
    let bounds = ParallelismBounds { lower, upper }.checked(id).map_err(|error| error.to_string())?;
    Ok(VertexParallelism { id, bounds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vertex_has_so_many_subtasks_or_at_least_and_at_most() {
        let id = "0123456789abcdef".repeat(2);
        let bounds = |text: &str| vertex(&format!("{id}={text}")).map(|given| (given.bounds.lower, given.bounds.upper));
        assert_eq!((bounds("4"), bounds("2..4"), bounds("3..3")), (Ok((1, 4)), Ok((2, 4)), Ok((3, 3))));
        for wrong in ["", "x", "0", "4..2", "0..2", "1..", "-1"] {
            assert!(bounds(wrong).is_err(), "{wrong}");
        }
        assert!(vertex("source=4").expect_err("a name").contains("32 hex digits"));
        assert!(vertex(&id).expect_err("no number").contains("ID=N"));
    }
}

#[derive(Debug, Args)]
pub(super) struct Cluster {
    /// Cluster file: settings of all nodes, and a table [nodes.NAME] for each.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set a key for all nodes; wins over file and environment.
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
    /// Do not start a node again that has ended.
    #[arg(long)]
    pub no_restart: bool,
    /// What nodes log on standard error: error, warn, info, debug, trace, also by module.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Print each line as one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Node {
    #[command(flatten)]
    pub settings: Settings,
    /// Which node this is, where the file describes a whole cluster.
    #[arg(long, value_name = "NODE", requires = "config")]
    pub name: Option<String>,
    /// What is logged on standard error: error, warn, info, debug, trace, also by module.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
    /// End when standard input does: for whoever starts nodes and must not leave them behind.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Certs {
    /// Folder of the authority (`ca.pem`, `ca.key`) and of what it signs (`NODE.pem`, `NODE.key`).
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Days that the certificates of nodes are valid.
    #[arg(long, value_name = "N", default_value_t = 365)]
    pub days: u32,
    /// Names of nodes.
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Where the REST server is, as http://HOST:PORT [default: rest.address and rest.port].
    #[arg(long, env = super::remote::ADDRESS_VARIABLE, value_name = "URL")]
    pub address: Option<String>,
    /// Print the answer of the REST server unchanged.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Debug, Args)]
pub(super) struct Submit {
    /// Name of the job, see `jobs`. The cluster must run the same build of this program.
    pub job: String,
    /// Number of subtasks of each operator [default: that of the cluster].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub parallelism: Option<u32>,
    /// Start from this savepoint or checkpoint: a path or s3://bucket/prefix.
    #[arg(short = 's', long = "savepoint", value_name = "PATH")]
    pub savepoint: Option<String>,
    /// Leave behind state that no operator of the job claims.
    #[arg(short = 'n', long)]
    pub allow_non_restored_state: bool,
    /// Where the cluster is; what `-D` sets is sent with the job.
    #[command(flatten)]
    pub remote: Remote,
    /// Options of the job. Nodes have working directories of their own: paths should be absolute.
    #[arg(last = true, value_name = "JOB OPTIONS")]
    pub options: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct OfJob {
    /// Id of the job, see `list`.
    pub id: String,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Savepoint {
    #[command(subcommand)]
    pub inspect: Option<Inspect>,
    /// Id of the job, see `list`.
    #[arg(required = true)]
    pub id: Option<String>,
    /// Folder to make it in [default: execution.checkpointing.savepoint-dir of the job].
    #[arg(long, value_name = "DIR")]
    pub target: Option<String>,
    #[command(flatten)]
    pub remote: Remote,
}

#[derive(Debug, Subcommand)]
pub(super) enum Inspect {
    /// Show what a savepoint or checkpoint holds.
    Inspect {
        /// Folder of the savepoint, or manifest of a checkpoint: a path or s3://bucket/prefix.
        path: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    #[command(flatten)]
    pub job: OfJob,
    /// Fire all timers and windows first: the job cannot be resumed as if nothing had been.
    #[arg(long)]
    pub drain: bool,
    /// Folder for the savepoint [default: execution.checkpointing.savepoint-dir of the job].
    #[arg(long, value_name = "DIR")]
    pub target: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// Card transactions for the job fraud-detection: the same arguments give the same bytes.
    Transactions {
        /// Folder for the files.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
        /// Lines in all files together.
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        events: u64,
        /// Number of files.
        #[arg(long, value_name = "F", default_value_t = 8)]
        files: u32,
        /// Everything random follows from it.
        #[arg(long, value_name = "S", default_value_t = 1)]
        seed: u64,
        /// Also write a rules file that blocks the planted users.
        #[arg(long, value_name = "FILE")]
        rules: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
