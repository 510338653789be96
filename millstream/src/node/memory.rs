//! How much memory a node holds before it has anything to do. The allocator asks for huge pages: state is found faster on
//! them, but every first touch of one costs 2 MiB, and a node that waits for jobs touches many places a little. So the kernel
//! is told to give none until the first job comes; a job manager, which runs none, stays small.
//!
//! Linux only; elsewhere there is nothing to tell.

/// Before the node starts: small pages.
pub(super) fn wait_for_work() {
    set_huge_pages(false);
}

/// A job comes: memory that is touched from now on may lie on huge pages.
pub(super) fn work() {
    set_huge_pages(true);
}

#[cfg(target_os = "linux")]
fn set_huge_pages(allowed: bool) {
    // A kernel that cannot do this gives them all the time, or never.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!allowed) {
        tracing::debug!("huge pages stay as they are: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn set_huge_pages(_allowed: bool) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rustix::thread::transparent_huge_pages_are_disabled;

    #[test]
    fn a_node_has_no_huge_pages_until_there_is_work() {
        super::wait_for_work();
        assert!(transparent_huge_pages_are_disabled().unwrap());
        super::work();
        assert!(!transparent_huge_pages_are_disabled().unwrap());
    }
}
