//! What a source tells about itself, as FLIP-33 names it. Written by the actor of a source subtask.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

use super::instrument::{Instrument, Measured, Now, Read};

/// No value yet.
const UNKNOWN: i64 = -1;

/// Counters and gauges of one source operator in one subtask.
#[derive(Debug)]
pub struct SourceMetrics {
    records_in: AtomicU64,
    bytes_in: AtomicU64,
    record_errors: AtomicU64,
    splits_processed: AtomicU64,
    emit_lag_ms: AtomicI64,
    fetch_lag_ms: AtomicI64,
    watermark: AtomicI64,
    last_emit_ms: AtomicI64,
    pending_records: AtomicI64,
    pending_bytes: AtomicI64,
}

/// All values of a source at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceReading {
    records_in: u64,
    bytes_in: u64,
    record_errors: u64,
    splits_processed: u64,
    emit_lag_ms: Option<i64>,
    fetch_lag_ms: Option<i64>,
    watermark_lag_ms: Option<i64>,
    idle_ms: i64,
    pending_records: Option<i64>,
    pending_bytes: Option<i64>,
}

impl SourceMetrics {
    /// A source that begins now, in milliseconds since the epoch.
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        Self {
            records_in: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            record_errors: AtomicU64::new(0),
            splits_processed: AtomicU64::new(0),
            emit_lag_ms: AtomicI64::new(i64::MIN),
            fetch_lag_ms: AtomicI64::new(i64::MIN),
            watermark: AtomicI64::new(MIN_TIMESTAMP),
            last_emit_ms: AtomicI64::new(now_ms),
            pending_records: AtomicI64::new(UNKNOWN),
            pending_bytes: AtomicI64::new(UNKNOWN),
        }
    }

    /// A batch was emitted; `event_time` is the time of its last record, if records have one.
    #[inline]
    pub fn emitted(&self, records: u64, bytes: u64, event_time: Option<Timestamp>, now_ms: i64) {
        self.records_in.fetch_add(records, Relaxed);
        self.bytes_in.fetch_add(bytes, Relaxed);
        self.last_emit_ms.store(now_ms, Relaxed);
        if let Some(event_time) = event_time {
            self.emit_lag_ms.store(now_ms.saturating_sub(event_time), Relaxed);
        }
    }

    /// Records were fetched, the last of them of this event time.
    pub fn fetched(&self, event_time: Timestamp, now_ms: i64) {
        self.fetch_lag_ms.store(now_ms.saturating_sub(event_time), Relaxed);
    }

    /// Records could not be decoded.
    pub fn add_errors(&self, records: u64) {
        self.record_errors.fetch_add(records, Relaxed);
    }

    /// A split was read to its end.
    pub fn split_finished(&self) {
        self.splits_processed.fetch_add(1, Relaxed);
    }

    /// The source emitted a watermark.
    #[inline]
    pub fn set_watermark(&self, watermark: Timestamp) {
        self.watermark.store(watermark, Relaxed);
    }

    /// What is known to wait at the outside.
    pub fn set_pending(&self, records: Option<u64>, bytes: Option<u64>) {
        let number = |pending: Option<u64>| pending.and_then(|n| i64::try_from(n).ok()).unwrap_or(UNKNOWN);
        self.pending_records.store(number(records), Relaxed);
        self.pending_bytes.store(number(bytes), Relaxed);
    }
}

type Metric = Instrument<SourceReading>;

impl Measured for SourceMetrics {
    type Reading = SourceReading;

    const SCOPE: &'static str = "taskmanager.job.task.operator";

    #[rustfmt::skip]
    const INSTRUMENTS: &'static [Metric] = &[
        Metric::new("numRecordsIn", "{record}", "Records read from outside.", Read::Counter(|r| r.records_in)),
        Metric::new("numBytesIn", "By", "Bytes read from outside.", Read::Counter(|r| r.bytes_in)),
        Metric::new("numRecordsInErrors", "{record}", "Records that could not be decoded.", Read::Counter(|r| r.record_errors)),
        Metric::new("numSplitsProcessed", "{split}", "Splits read to their end.", Read::Counter(|r| r.splits_processed)),
        Metric::new("currentFetchEventTimeLag", "ms", "Time of the fetch minus event time.", Read::Gauge(|r| r.fetch_lag_ms)),
        Metric::new("currentEmitEventTimeLag", "ms", "Time of the emission minus event time.", Read::Gauge(|r| r.emit_lag_ms)),
        Metric::new("watermarkLag", "ms", "Time now minus watermark.", Read::Gauge(|r| r.watermark_lag_ms)),
        Metric::new("sourceIdleTime", "ms", "Time since the last record.", Read::Gauge(|r| Some(r.idle_ms))),
        Metric::new("pendingRecords", "{record}", "Records known to wait outside.", Read::Gauge(|r| r.pending_records)),
        Metric::new("pendingBytes", "By", "Bytes known to wait outside.", Read::Gauge(|r| r.pending_bytes)),
    ];

    fn sample(&self, _now: Now) {}

    fn reading(&self, now: Now) -> SourceReading {
        let known = |lag: i64| (lag != i64::MIN).then_some(lag);
        let pending = |pending: i64| (pending != UNKNOWN).then_some(pending);
        let watermark = self.watermark.load(Relaxed);
        SourceReading {
            records_in: self.records_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            record_errors: self.record_errors.load(Relaxed),
            splits_processed: self.splits_processed.load(Relaxed),
            emit_lag_ms: known(self.emit_lag_ms.load(Relaxed)),
            fetch_lag_ms: known(self.fetch_lag_ms.load(Relaxed)),
            watermark_lag_ms: known(watermark).map(|watermark| now.wall_ms.saturating_sub(watermark)),
            idle_ms: now.wall_ms.saturating_sub(self.last_emit_ms.load(Relaxed)).max(0),
            pending_records: pending(self.pending_records.load(Relaxed)),
            pending_bytes: pending(self.pending_bytes.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_unknown_until_there_is_a_record_and_follow_the_clock_afterwards() {
        let metrics = SourceMetrics::new(1_000);
        let at = |wall_ms| Now { wall_ms, monotonic_ns: 0 };
        let before = metrics.reading(at(1_500));
        assert_eq!((before.emit_lag_ms, before.watermark_lag_ms, before.pending_records), (None, None, None));
        assert_eq!(before.idle_ms, 500);
        metrics.emitted(10, 100, Some(1_600), 2_000);
        metrics.set_watermark(1_550);
        metrics.set_pending(Some(7), None);
        let after = metrics.reading(at(2_100));
        assert_eq!(after.emit_lag_ms, Some(400));
        assert_eq!(after.watermark_lag_ms, Some(550));
        assert_eq!((after.idle_ms, after.pending_records, after.pending_bytes), (100, Some(7), None));
        assert_eq!((after.records_in, after.bytes_in), (10, 100));
    }
}
