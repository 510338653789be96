//! How long entries live, what counts as using them, and who sees one that has expired.

use crate::state::keyed::Times;
use crate::time::{Span, Timestamp};

/// What counts as using an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateType {
    /// Writing it.
    OnCreateAndWrite,
    /// Reading it as well: a read that moves the time is a change, and part of the next checkpoint.
    OnReadAndWrite,
}

/// Who sees an entry that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateVisibility {
    /// Nobody: reading it removes it.
    NeverReturnExpired,
    /// Whoever comes before it is cleaned up.
    ReturnExpiredIfNotCleanedUp,
}

/// By which time entries grow old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlTime {
    /// The time of day.
    ProcessingTime,
    /// The watermark; an entry was used at the time of the record or at the watermark, whichever is later.
    EventTime,
}

/// The time to live of a state. By default writing counts as use, expired entries are never seen, the time of day counts,
/// and for each record five places of the state are looked at for entries to clean up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTtl {
    live_ms: i64,
    pub(super) update: UpdateType,
    pub(super) visibility: StateVisibility,
    time: TtlTime,
    pub(super) cleanup_per_record: usize,
}

impl StateTtl {
    /// Entries expire when they have not been used for so long.
    ///
    /// # Panics
    /// When the time is not positive.
    #[must_use]
    pub fn new(live: Span) -> Self {
        assert!(live.0 > 0, "a state lives at least a millisecond");
        Self {
            live_ms: live.0,
            update: UpdateType::OnCreateAndWrite,
            visibility: StateVisibility::NeverReturnExpired,
            time: TtlTime::ProcessingTime,
            cleanup_per_record: 5,
        }
    }

    /// Sets what counts as use.
    #[must_use]
    pub fn with_update(self, update: UpdateType) -> Self {
        Self { update, ..self }
    }

    /// Sets who sees expired entries.
    #[must_use]
    pub fn with_visibility(self, visibility: StateVisibility) -> Self {
        Self { visibility, ..self }
    }

    /// Sets by which time entries grow old.
    #[must_use]
    pub fn with_time(self, time: TtlTime) -> Self {
        Self { time, ..self }
    }

    /// Sets how many places of the state are looked at for each record, to clean up what has expired. With 0 that happens
    /// only when an entry is read, when its key group is part of a checkpoint, and at a restore.
    #[must_use]
    pub fn with_cleanup_per_record(self, places: usize) -> Self {
        Self { cleanup_per_record: places, ..self }
    }

    /// By which time entries grow old.
    pub(super) fn time(&self) -> TtlTime {
        self.time
    }

    /// The time that an entry used now is stamped with.
    pub(super) fn stamp(&self, times: &Times) -> Timestamp {
        match self.time {
            TtlTime::ProcessingTime => times.processing,
            TtlTime::EventTime => times.watermark.max(times.timestamp.unwrap_or(times.watermark)),
        }
    }

    /// What has expired by now.
    pub(super) fn expiry(&self, times: &Times) -> Expiry {
        let now = match self.time {
            TtlTime::ProcessingTime => times.processing,
            TtlTime::EventTime => times.watermark,
        };
        Expiry { live_ms: self.live_ms, now }
    }

    /// What nobody sees any more.
    pub(super) fn unseen(&self, times: &Times) -> Option<Expiry> {
        match self.visibility {
            StateVisibility::NeverReturnExpired => Some(self.expiry(times)),
            StateVisibility::ReturnExpiredIfNotCleanedUp => None,
        }
    }

    /// The time that an entry read now is stamped with, if reading counts as use.
    pub(super) fn stamp_of_read(&self, times: &Times) -> Option<Timestamp> {
        match self.update {
            UpdateType::OnCreateAndWrite => None,
            UpdateType::OnReadAndWrite => Some(self.stamp(times)),
        }
    }
}

/// A moment at which entries are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    live_ms: i64,
    now: Timestamp,
}

impl Expiry {
    /// Whether what was used then has expired.
    pub(super) fn reached(self, used: Timestamp) -> bool {
        used.saturating_add(self.live_ms) <= self.now
    }

    /// Before any time is known nothing has expired.
    pub(super) fn never(ttl: &StateTtl) -> Self {
        Self { live_ms: ttl.live_ms, now: crate::time::MIN_TIMESTAMP }
    }
}
