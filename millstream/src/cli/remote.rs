//! Commands that are clients of a running program's REST server.

use millstream_config::{Configuration, keys};

use super::Failure;
use super::arguments::{OfJob, Remote, Savepoint, Stop};
use super::configuration;
use crate::client::{Client, Reply};
use crate::error::Error;

/// Names the server, if the flag `--address` does not.
pub(super) const ADDRESS_VARIABLE: &str = "MILLSTREAM_REST_ADDRESS";

pub(super) fn list(remote: &Remote) -> Result<(), Failure> {
    print(client(remote)?.list()?, remote)
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
    let (address, port) = place(remote.address.as_deref(), &loaded)?;
    Ok(Client::new(&address, port))
}

/// Host and port of the server.
fn place(address: Option<&str>, configuration: &Configuration) -> Result<(String, u16), Error> {
    let default_port = configuration.get(&keys::REST_PORT);
    let Some(address) = address.filter(|address| !address.is_empty()) else {
        return Ok((configuration.get(&keys::REST_ADDRESS), default_port));
    };
    let wrong = || Error::usage(format!("--address {address} is not of the form http://HOST:PORT"));
    let place = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    if place.is_empty() || place.contains('/') {
        return Err(wrong());
    }
    let (host, port) = match place.rsplit_once(':') {
        // The colons of an IPv6 address without a port.
        Some((host, _)) if host.contains(':') && !host.ends_with(']') => (place, None),
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| wrong()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(wrong()) } else { Ok((host.to_string(), port)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_scheme_and_port() {
        let place = |address| place(Some(address), &Configuration::default()).unwrap();
        assert_eq!(place("http://127.0.0.1:8081"), ("127.0.0.1".to_string(), 8081));
        assert_eq!(place("host:1/"), ("host".to_string(), 1));
        assert_eq!(place("host"), ("host".to_string(), 8081));
        assert_eq!(place("[::1]:99"), ("::1".to_string(), 99));
        assert_eq!(place("::1"), ("::1".to_string(), 8081));
        assert_eq!(place(""), ("127.0.0.1".to_string(), 8081));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for address in ["https://host:1/path", "host:port", "http://", ":80"] {
            assert!(super::place(Some(address), &Configuration::default()).is_err(), "{address}");
        }
    }
}
