//! Certificates of a node: who may link with it, and as whom it links. Mutual TLS 1.3 always; one authority per
//! cluster, and every certificate it has signed is a node.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_runtime::ports::Clock;
use millstream_runtime::time::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, RootCertStore};

use crate::error::Error;

/// The name that certificates of nodes are valid for: addresses of nodes may change, what they are does not.
pub const NODE_NAME: &str = "node.millstream.internal";
/// Spoken on the connection; never changes, versions are told in the greeting.
const PROTOCOL: &[u8] = b"millstream";

/// Certificates of one node as PEM text.
#[derive(Clone)]
pub struct PemCertificates {
    /// The authority's certificate, or several.
    pub authority: String,
    /// The node's certificate, followed by intermediate ones if any.
    pub certificate: String,
    /// The node's private key.
    pub key: String,
}

/// Certificates of one node, checked.
pub struct Certificates {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificates {
    /// Reads and checks PEM files. `now_ms` is the time of day.
    ///
    /// # Errors
    /// When a file is missing, holds something else, has expired, or they do not belong together; says what to do.
    pub fn load(authority: &Path, certificate: &Path, key: &Path, now_ms: Timestamp) -> Result<Self, Error> {
        warn_of_readable_key(key);
        let pem = PemCertificates { authority: read(authority)?, certificate: read(certificate)?, key: read(key)? };
        Self::from_pem(&pem, now_ms).map_err(|error| match error {
            Error::Certificate(problem) => Error::File { path: certificate.to_path_buf(), problem },
            other => other,
        })
    }

    /// Checks PEM text.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_pem(pem: &PemCertificates, now_ms: Timestamp) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&pem.authority, "the authority's certificate")? {
            let added = roots.add(authority);
            added.map_err(|error| Error::Certificate(format!("the authority's certificate is unusable: {error}")))?;
        }
        let chain = certificates(&pem.certificate, "the node's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes())
            .map_err(|error| Error::Certificate(format!("the node's key is no private key in PEM form: {error}")))?;
        let certificates = Self { roots: Arc::new(roots), chain, key };
        certificates.check(now_ms)?;
        Ok(certificates)
    }

    /// Whether peers will accept the node: what they would say, said at the start.
    fn check(&self, now_ms: Timestamp) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&provider))
            .build()
            .map_err(|error| Error::Certificate(format!("the authority's certificate is unusable: {error}")))?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now_ms).unwrap_or(0)));
        let name = ServerName::try_from(NODE_NAME).expect("a DNS name");
        let (certificate, between) = self.chain.split_first().expect("read with at least one");
        verifier.verify_server_cert(certificate, between, &name, &[], now).map_err(|error| {
            Error::Certificate(match error {
                rustls::Error::InvalidCertificate(problem) => explain(&problem),
                other => format!("the node's certificate is unusable: {other}"),
            })
        })?;
        let signer = provider.key_provider.load_private_key(self.key.clone_key());
        let signer = signer.map_err(|error| Error::Certificate(format!("the node's key is unusable: {error}")))?;
        rustls::sign::CertifiedKey::new(self.chain.clone(), signer)
            .keys_match()
            .map_err(|_| Error::Certificate("the node's key belongs to another certificate".to_owned()))
    }

    /// How the node answers diallers.
    pub(crate) fn server(
        &self,
        provider: &Arc<CryptoProvider>,
        clock: &TlsClock,
    ) -> Result<rustls::ServerConfig, Error> {
        let unusable = |error: rustls::Error| Error::Certificate(format!("TLS cannot be set up: {error}"));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(provider));
        let verifier = verifier.build().map_err(|error| Error::Certificate(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Every link is a full handshake: a resumed one would not look at certificates again.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// How the node dials.
    pub(crate) fn client(
        &self,
        provider: &Arc<CryptoProvider>,
        clock: &TlsClock,
    ) -> Result<rustls::ClientConfig, Error> {
        let unusable = |error: rustls::Error| Error::Certificate(format!("TLS cannot be set up: {error}"));
        let mut config = rustls::ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(unusable)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// What is wrong with a certificate, and what to do.
fn explain(problem: &CertificateError) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired: issue a new one".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet: check the clocks of the nodes".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate was not signed by this cluster's authority: all nodes need certificates of the same one"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate is not valid for the DNS name {NODE_NAME}, which certificates of nodes carry")
        }
        other => format!("the certificate is unusable: {other}"),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path)
        .map_err(|error| Error::File { path: path.to_path_buf(), problem: format!("cannot be read: {error}") })
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::Certificate(format!("{what}: there is no certificate in PEM form in it"))),
        Err(error) => Err(Error::Certificate(format!("{what} is damaged: {error}"))),
    }
}

#[cfg(unix)]
fn warn_of_readable_key(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let readable = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
    if readable {
        tracing::warn!(key = %path.display(), "every user of this machine can use the node's key: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_of_readable_key(_path: &Path) {}

/// The injected clock, as TLS asks for it.
#[derive(Clone)]
pub(crate) struct TlsClock(pub(crate) Arc<dyn Clock>);

impl TlsClock {
    pub(crate) fn since_epoch(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.now_ms()).unwrap_or(0))
    }
}

impl std::fmt::Debug for TlsClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClock")
    }
}

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

impl quinn::TimeSource for TlsClock {
    fn now(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + self.since_epoch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;

    const NOW_MS: Timestamp = 1_790_000_000_000;

    fn problem(pem: &PemCertificates) -> String {
        Certificates::from_pem(pem, NOW_MS).map(|_| ()).expect_err("unusable").to_string()
    }

    #[test]
    fn every_way_certificates_can_be_wrong_is_named() {
        let authority = Authority::create(NOW_MS).expect("made");
        let (good, other) = (authority.issue("a", NOW_MS, 1).expect("a"), authority.issue("b", NOW_MS, 1).expect("b"));
        assert!(Certificates::from_pem(&good, NOW_MS).is_ok());
        let foreign = Authority::create(NOW_MS).expect("made").issue("a", NOW_MS, 1).expect("issued");
        let with = |change: &dyn Fn(&mut PemCertificates)| {
            let mut pem = good.clone();
            change(&mut pem);
            problem(&pem)
        };
        assert!(
            with(&|pem| pem.certificate = foreign.certificate.clone())
                .contains("not signed by this cluster's authority")
        );
        assert!(with(&|pem| pem.key = other.key.clone()).contains("belongs to another certificate"));
        assert!(with(&|pem| pem.certificate.clear()).contains("no certificate in PEM form"));
        assert!(with(&|pem| pem.key.clear()).contains("no private key"));
        assert!(with(&|pem| pem.authority = "-----BEGIN CERTIFICATE-----\n!".to_owned()).contains("damaged"));
        let early = Certificates::from_pem(&good, NOW_MS - 2 * 86_400_000).map(|_| ()).expect_err("early");
        assert!(early.to_string().contains("clocks"), "{early}");
        let missing =
            Certificates::load(Path::new("/nowhere/ca.pem"), Path::new("/nowhere/a"), Path::new("/nowhere/b"), 0);
        assert!(missing.map(|_| ()).expect_err("missing").to_string().contains("/nowhere/ca.pem: cannot be read"));
    }
}
