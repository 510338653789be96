//! Named places between two durable steps where a test can end the process, to prove that either step may be the last.
//! A [`Failpoints`] value is handed to whoever takes such steps; unarmed it costs one comparison.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A segment is durable, nobody knows of it yet.
pub const SEGMENT_WRITTEN: &str = "segment-written";
/// A manifest is durable, its log record is not written.
pub const MANIFEST_CREATED: &str = "manifest-created";
/// A log record is durable, nobody has acted on it.
pub const LOG_APPENDED: &str = "log-appended";
/// Sinks are about to be told to commit.
pub const BEFORE_COMMIT: &str = "before-commit";

/// Variable read once by the program at its start: `NAME` or `NAME:COUNT`, the process aborts at the COUNT-th hit.
pub const VARIABLE: &str = "MILLSTREAM_FAILPOINT";

/// The armed failpoint, or none. Cheap to clone; clones count hits together.
#[derive(Clone, Default)]
pub struct Failpoints(Option<Arc<Armed>>);

struct Armed {
    name: String,
    remaining: AtomicU32,
    action: Box<dyn Fn() + Send + Sync>,
}

impl Failpoints {
    /// Nothing is armed.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Aborts the process at the `count`-th hit of `name`, without unwinding or flushing, as a power switch would.
    #[must_use]
    pub fn abort_at(name: &str, count: u32) -> Self {
        Self::call_at(name, count, || std::process::abort())
    }

    /// Calls `action` at the `count`-th hit of `name`; for simulations, where a crash is an event.
    #[must_use]
    pub fn call_at(name: &str, count: u32, action: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Armed {
            name: name.to_string(),
            remaining: AtomicU32::new(count.max(1)),
            action: Box::new(action),
        })))
    }

    /// Reads the form of [`VARIABLE`].
    ///
    /// # Errors
    /// When the count is not a number from 1.
    pub fn parse(setting: &str) -> Result<Self, String> {
        let (name, count) = setting.split_once(':').unwrap_or((setting, "1"));
        let count = count.parse::<u32>().ok().filter(|count| *count > 0);
        let count =
            count.ok_or_else(|| format!("{VARIABLE}={setting}: expected NAME or NAME:COUNT with COUNT from 1"))?;
        Ok(Self::abort_at(name, count))
    }

    /// Says that the process is at this place.
    #[inline]
    pub fn hit(&self, name: &str) {
        if let Some(armed) = &self.0 {
            armed.hit(name);
        }
    }
}

impl Armed {
    fn hit(&self, name: &str) {
        if self.name != name {
            return;
        }
        let before = self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if before == Ok(1) {
            (self.action)();
        }
    }
}

impl fmt::Debug for Failpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(armed) => write!(f, "Failpoints({})", armed.name),
            None => f.write_str("Failpoints(none)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_acts_once_at_its_count_and_others_do_nothing() {
        let hits = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&hits);
        let points = Failpoints::call_at(SEGMENT_WRITTEN, 2, move || {
            seen.fetch_add(1, Ordering::Relaxed);
        });
        let clone = points.clone();
        points.hit(MANIFEST_CREATED);
        points.hit(SEGMENT_WRITTEN);
        assert_eq!(hits.load(Ordering::Relaxed), 0);
        clone.hit(SEGMENT_WRITTEN);
        clone.hit(SEGMENT_WRITTEN);
        assert_eq!(hits.load(Ordering::Relaxed), 1);
        Failpoints::none().hit(SEGMENT_WRITTEN);
    }

    #[test]
    fn settings_are_name_and_count() {
        assert!(Failpoints::parse("log-appended").is_ok());
        assert!(Failpoints::parse("log-appended:3").is_ok());
        assert!(Failpoints::parse("log-appended:0").is_err());
        assert!(Failpoints::parse("log-appended:x").is_err());
    }
}
