//! How operating-system errors become port errors that name the file and say what to do. Used by all file connectors.

use std::io;
use std::path::Path;

use millstream_runtime::ports::PortError;

/// An I/O error while doing `action` ("open", "read", …) with `path`. What a restart may cure is `Retry`; a missing
/// file or a refused permission must be cured by the user first.
pub(crate) fn io_error(action: &str, path: &Path, error: &io::Error) -> PortError {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            PortError::fix_input(format!("cannot {action} {path}: it does not exist; put it back or correct the path"))
        }
        io::ErrorKind::PermissionDenied => {
            PortError::fix_input(format!("cannot {action} {path}: permission denied; allow this user to use it"))
        }
        _ => PortError::retry(format!("cannot {action} {path}: {error}")),
    }
}

/// Locks a mutex whose holder may have panicked: what it guards is replaced whole, never half.
pub(crate) fn lock<T: ?Sized>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
