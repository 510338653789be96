//! Event time: milliseconds since the Unix epoch, as a plain number with two named ends.
//! Used by watermarks, timers and windows. Processing time is injected, see [`crate::ports::Clock`].

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, event or processing time.
pub type Timestamp = i64;

/// Before every event: the watermark of an input that has said nothing yet, and the timestamp of an untimed record.
pub const MIN_TIMESTAMP: Timestamp = i64::MIN;

/// After every event: the watermark at the end of a bounded input.
pub const MAX_TIMESTAMP: Timestamp = i64::MAX;

/// A span of event or processing time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub i64);

/// A span of milliseconds.
#[must_use]
pub const fn milliseconds(n: i64) -> Span {
    Span(n)
}

/// A span of seconds.
#[must_use]
pub const fn seconds(n: i64) -> Span {
    Span(n * 1_000)
}

/// A span of minutes.
#[must_use]
pub const fn minutes(n: i64) -> Span {
    Span(n * 60_000)
}

/// A span of hours.
#[must_use]
pub const fn hours(n: i64) -> Span {
    Span(n * 3_600_000)
}
