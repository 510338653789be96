//! Commands that are clients of a running program's REST server.

use std::time::Duration;

use millstream_config::{Configuration, Origin, Setting, keys};
use millstream_state::blob::Location;

use super::Failure;
use super::arguments::{OfJob, Remote, Rescale, Savepoint, Stop, Submit, VertexParallelism};
use super::configuration;
use crate::client::{self, Client, Patience, Reply, Rescaling, Submission};
use crate::error::Error;
use crate::jobs::{self, Job};
use crate::run::sample;
use crate::run::screen::Screen;
use crate::stream::Parameters;

/// Names the server, if the flag `--address` does not.
pub(super) const ADDRESS_VARIABLE: &str = "MILLSTREAM_REST_ADDRESS";

pub(super) fn list(remote: &Remote) -> Result<(), Failure> {
    print(client(remote)?.list()?, remote)
}

pub(super) fn nodes(remote: &Remote) -> Result<(), Failure> {
    print(client(remote)?.nodes()?, remote)
}

/// Submits a job of this program.
pub(super) fn submit(submit: &Submit, jobs: &[Job]) -> Result<(), Failure> {
    let Submit { job, parallelism, savepoint, allow_non_restored_state, remote, options } = submit;
    let job = jobs::find(jobs, job)?;
    let screen = Screen::new();
    let configuration = configuration(&remote.settings, |warning| screen.message(&format!("warning: {warning}")))?;
    let client = client_of(remote, &configuration)?;
    let mut submission = Submission::from(job);
    for (key, value) in sample::absolute_defaults(job, Parameters::parse(options)?, &screen)?.iter() {
        submission = match value {
            Some(value) => submission.option(key, value),
            None => submission.flag(key),
        };
    }
    for (key, setting) in configuration.iter().filter(|(key, setting)| is_of_job(key, setting)) {
        submission = submission.set(key, &setting.value);
    }
    if let Some(parallelism) = parallelism {
        submission = submission.parallelism(*parallelism);
    }
    if let Some(savepoint) = savepoint {
        submission = submission.from_savepoint(absolute(savepoint)?);
    }
    if *allow_non_restored_state {
        submission = submission.allow_non_restored_state();
    }
    print(client.submit_job(&submission)?, remote)
}

/// What was set with `-D`, except where the server is: the rest is the cluster's business.
fn is_of_job(key: &str, setting: &Setting) -> bool {
    setting.origin == Origin::Flag && ![keys::REST_ADDRESS.name, keys::REST_PORT.name].contains(&key)
}

/// A place as every node understands it: nodes have working directories of their own.
fn absolute(place: &str) -> Result<String, Error> {
    match Location::parse(place)? {
        Location::Folder(path) => sample::absolute(&path.to_string_lossy()),
        location => Ok(location.to_string()),
    }
}

pub(super) fn describe(job: &OfJob) -> Result<(), Failure> {
    print(client(&job.remote)?.describe(&job.id)?, &job.remote)
}

pub(super) fn checkpoint(job: &OfJob) -> Result<(), Failure> {
    print(client(&job.remote)?.checkpoint(&job.id)?, &job.remote)
}

pub(super) fn savepoint(savepoint: &Savepoint, id: &str) -> Result<(), Failure> {
    let remote = &savepoint.remote;
    print(client(remote)?.savepoint(id, savepoint.target.as_deref())?, remote)
}

pub(super) fn stop(stop: &Stop) -> Result<(), Failure> {
    let OfJob { id, remote } = &stop.job;
    print(client(remote)?.stop(id, stop.target.as_deref(), stop.drain)?, remote)
}

pub(super) fn rescale(rescale: &Rescale) -> Result<(), Failure> {
    let Rescale { job: OfJob { id, remote }, parallelism, vertex } = rescale;
    let rescaling = parallelism.map_or_else(Rescaling::of_vertices, Rescaling::to);
    let with = |rescaling: Rescaling, given: &VertexParallelism| {
        rescaling.vertex(given.id, given.bounds.lower, given.bounds.upper)
    };
    print(client(remote)?.rescale(id, &vertex.iter().fold(rescaling, with))?, remote)
}

pub(super) fn cancel(job: &OfJob) -> Result<(), Failure> {
    print(client(&job.remote)?.cancel(&job.id)?, &job.remote)
}

fn print(reply: Reply, remote: &Remote) -> Result<(), Failure> {
    if !remote.json {
        return super::print(&reply.text);
    }
    super::print(&reply.body)?;
    if reply.body.ends_with('\n') { Ok(()) } else { super::print("\n") }
}

fn client(remote: &Remote) -> Result<Client, Failure> {
    let loaded = configuration(&remote.settings, |warning| eprintln!("warning: {warning}"))?;
    client_of(remote, &loaded)
}

fn client_of(remote: &Remote, configuration: &Configuration) -> Result<Client, Failure> {
    let (address, port) = place(remote.address.as_deref(), configuration)?;
    // A wrong address is told at once; a cluster that changes its leader is worth waiting for.
    let patience = Patience { leader: client::cluster::PATIENCE, server: Duration::ZERO };
    Ok(Client::new(&address, port).with_patience(patience))
}

/// Host and port of the server.
fn place(address: Option<&str>, configuration: &Configuration) -> Result<(String, u16), Error> {
    let default_port = configuration.get(&keys::REST_PORT);
    let Some(address) = address.filter(|address| !address.is_empty()) else {
        return Ok((configuration.get(&keys::REST_ADDRESS), default_port));
    };
    let wrong = || Error::usage(format!("--address {address} is not of the form http://HOST:PORT"));
    client::place::parse(address, default_port).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_wins_over_the_configuration() {
        let place = |address| place(address, &Configuration::default());
        assert_eq!(place(Some("host")).unwrap(), ("host".to_string(), 8081));
        assert_eq!(place(Some("")).unwrap(), ("127.0.0.1".to_string(), 8081));
        assert_eq!(place(None).unwrap(), ("127.0.0.1".to_string(), 8081));
        let error = place(Some("host:port")).unwrap_err();
        assert!(error.to_string().contains("--address host:port"), "{error}");
    }
}
