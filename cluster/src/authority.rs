//! A certificate authority for development and small clusters: makes itself and certificates of nodes, as PEM files.
//! Used by `millstream certs`; larger installations bring certificates of their own.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_runtime::time::Timestamp;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};

use crate::certificates::{NODE_NAME, PemCertificates};
use crate::error::Error;

/// File name of the authority's certificate, which every node needs.
pub const AUTHORITY_CERTIFICATE: &str = "ca.pem";
/// File name of the authority's key, which no node needs.
pub const AUTHORITY_KEY: &str = "ca.key";

/// Days that the authority's certificate is valid.
const AUTHORITY_DAYS: u32 = 3_650;
/// Hours that certificates are valid before they are made: clocks of nodes may be behind.
const CLOCK_SKEW_HOURS: u64 = 24;

/// An authority that can sign certificates of nodes.
pub struct Authority {
    key: KeyPair,
    certificate_pem: String,
}

/// Files of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    /// Its certificate.
    pub certificate: PathBuf,
    /// Its key, readable by the owner only.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority. `now_ms` is the time of day.
    ///
    /// # Errors
    /// When the machine has no random numbers.
    pub fn create(now_ms: Timestamp) -> Result<Self, Error> {
        let key = new_key()?;
        let mut params = params("Millstream development authority", now_ms, AUTHORITY_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(unsigned)?;
        Ok(Self { certificate_pem: certificate.pem(), key })
    }

    /// The authority of a folder: a new one, whose files are written there, if there is none. `now_ms` is the time of day.
    ///
    /// # Errors
    /// As [`create`](Self::create), [`load`](Self::load) and [`save`](Self::save).
    pub fn of_folder(folder: &Path, now_ms: Timestamp) -> Result<Self, Error> {
        if folder.join(AUTHORITY_KEY).exists() {
            return Self::load(folder);
        }
        let authority = Self::create(now_ms)?;
        authority.save(folder)?;
        Ok(authority)
    }

    /// The authority whose files lie in a folder.
    ///
    /// # Errors
    /// When a file is missing or not what [`save`](Self::save) wrote.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let key_path = folder.join(AUTHORITY_KEY);
        let key = KeyPair::from_pem(&read(&key_path)?)
            .map_err(|error| file_error(&key_path, format!("this is not the key of an authority: {error}")))?;
        Ok(Self { key, certificate_pem: read(&folder.join(AUTHORITY_CERTIFICATE))? })
    }

    /// Writes certificate and key into a folder, which is made if need be.
    ///
    /// # Errors
    /// When there is an authority in the folder already, or it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(|error| file_error(folder, format!("cannot be made: {error}")))?;
        write_new(&folder.join(AUTHORITY_KEY), &self.key.serialize_pem(), 0o600)?;
        write_new(&folder.join(AUTHORITY_CERTIFICATE), &self.certificate_pem, 0o644)
    }

    /// A certificate for a node, valid for so many days.
    ///
    /// # Errors
    /// When the machine has no random numbers, or the name is no name.
    pub fn issue(&self, node: &str, now_ms: Timestamp, days: u32) -> Result<PemCertificates, Error> {
        let key = new_key()?;
        let mut params = params(node, now_ms, days)?;
        params.subject_alt_names = vec![SanType::DnsName(NODE_NAME.try_into().map_err(unsigned)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::new(issuer_params()?, &self.key);
        let certificate: Certificate = params.signed_by(&key, &issuer).map_err(unsigned)?;
        Ok(PemCertificates {
            authority: self.certificate_pem.clone(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Issues a certificate and writes it into the folder as `NODE.pem` and `NODE.key`.
    ///
    /// # Errors
    /// As [`issue`](Self::issue), and when a file exists or cannot be written.
    pub fn issue_files(&self, folder: &Path, node: &str, now_ms: Timestamp, days: u32) -> Result<NodeFiles, Error> {
        if node.is_empty() || node.contains(['/', '\\', '\0']) || node.starts_with('.') || node == "ca" {
            return Err(Error::Certificate(format!(
                "'{node}' cannot be the name of a file: choose another name for the node"
            )));
        }
        let issued = self.issue(node, now_ms, days)?;
        let files =
            NodeFiles { certificate: folder.join(format!("{node}.pem")), key: folder.join(format!("{node}.key")) };
        write_new(&files.key, &issued.key, 0o600)?;
        write_new(&files.certificate, &issued.certificate, 0o644)?;
        Ok(files)
    }
}

/// Ed25519: its signatures are short, of one length, and need no random numbers.
fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&PKCS_ED25519).map_err(|error| Error::System(format!("a key cannot be made: {error}")))
}

fn unsigned(error: rcgen::Error) -> Error {
    Error::Certificate(format!("a certificate cannot be made: {error}"))
}

/// Name and constraints of the authority, as far as they go into what it signs.
fn issuer_params() -> Result<CertificateParams, Error> {
    params("Millstream development authority", 0, AUTHORITY_DAYS)
}

fn params(name: &str, now_ms: Timestamp, days: u32) -> Result<CertificateParams, Error> {
    let now = Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    let start = now.saturating_sub(Duration::from_secs(CLOCK_SKEW_HOURS * 3_600));
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1) + start;
    params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(u64::from(days) * 86_400);
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    let mut serial = [0; 16];
    let filled = SystemRandom::new().fill(&mut serial);
    filled.map_err(|_| Error::System("the random numbers of the operating system cannot be read".to_owned()))?;
    // Positive and of one length, so that certificates are.
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| file_error(path, format!("cannot be read: {error}")))
}

/// Never replaces a file: a key that is lost is lost.
fn write_new(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let written = options.open(path).and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| file_error(path, format!("cannot be written: {error}; existing files are never replaced")))
}

fn file_error(path: &Path, problem: String) -> Error {
    Error::File { path: path.to_path_buf(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Certificates;

    const NOW_MS: Timestamp = 1_790_000_000_000;
    const DAY_MS: Timestamp = 86_400_000;

    #[test]
    fn a_saved_authority_signs_certificates_that_are_accepted_until_they_expire() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Authority::create(NOW_MS).expect("made").save(folder.path()).expect("saved");
        let authority = Authority::load(folder.path()).expect("loaded");
        let files = authority.issue_files(folder.path(), "node-1", NOW_MS, 30).expect("issued");
        let load = |now_ms| {
            Certificates::load(&folder.path().join(AUTHORITY_CERTIFICATE), &files.certificate, &files.key, now_ms)
        };
        assert!(load(NOW_MS).is_ok() && load(NOW_MS + 29 * DAY_MS).is_ok());
        let expired = load(NOW_MS + 31 * DAY_MS).map(|_| ()).expect_err("expired").to_string();
        assert!(expired.contains("has expired") && expired.contains("node-1.pem"), "{expired}");
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_readable_by_their_owner_only_and_nothing_is_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = Authority::create(NOW_MS).expect("made");
        authority.save(folder.path()).expect("saved");
        let files = authority.issue_files(folder.path(), "n", NOW_MS, 1).expect("issued");
        for key in [folder.path().join(AUTHORITY_KEY), files.key] {
            let mode = fs::metadata(&key).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
        assert!(authority.save(folder.path()).is_err());
        assert!(authority.issue_files(folder.path(), "n", NOW_MS, 1).is_err());
        assert!(authority.issue_files(folder.path(), "../n", NOW_MS, 1).is_err());
    }
}
