//! Which build this program is: the digest of its executable. A job's functions are compiled into it, so nodes run a job
//! only with the very executable that it was submitted with. Used by whoever submits jobs, and by nodes.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::OnceLock;

use millstream_runtime::ports::PortError;
use ring::digest::{Context, SHA256};

use crate::error::Result;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What this process runs from, also when the file was replaced since.
const RUNNING: &str = "/proc/self/exe";

/// SHA-256 of the executable that this process runs. Read once; blocks meanwhile.
///
/// # Errors
/// When the executable cannot be read.
pub fn digest() -> Result<[u8; 32]> {
    static DIGEST: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(digest) = DIGEST.get() {
        return Ok(*digest);
    }
    let digest = read()?;
    Ok(*DIGEST.get_or_init(|| digest))
}

/// A digest, or another id, as hex digits.
#[must_use]
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read() -> Result<[u8; 32], PortError> {
    let path = PathBuf::from(RUNNING);
    let path = if path.exists() { path } else { std::env::current_exe().map_err(|error| unreadable(&error))? };
    of(File::open(path).map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> PortError {
    PortError::give_up(format!("the executable of this program cannot be read, so that nodes cannot tell it: {error}"))
}

fn of(mut content: impl Read) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => context.update(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_digest_is_sha_256_of_all_bytes() {
        // From FIPS 180-2; the longer one crosses the chunks.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&of(&b"abc"[..]).unwrap()), expected);
        let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(hex(&of(&vec![b'a'; 1_000_000][..]).unwrap()), expected);
    }

    #[test]
    fn a_program_knows_its_own_executable() {
        let own = of(File::open(std::env::current_exe().unwrap()).unwrap()).unwrap();
        assert_eq!(digest().unwrap(), own);
        assert_eq!(digest().unwrap(), own);
    }
}
