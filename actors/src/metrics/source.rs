//! What a source tells about itself, as FLIP-33 names it, as far as the runtime knows it. Written by the actor of a source
//! subtask.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use millstream_runtime::chain::source::SourceFigures;
use millstream_runtime::time::{MAX_TIMESTAMP, MIN_TIMESTAMP};

use super::instrument::{Instrument, Measured, Now, Read};

/// No value yet.
const UNKNOWN: i64 = i64::MIN;

/// Counters and gauges of one source operator in one subtask.
#[derive(Debug)]
pub struct SourceMetrics {
    records_in: AtomicU64,
    splits_processed: AtomicU64,
    emit_lag_ms: AtomicI64,
    watermark: AtomicI64,
    last_emit_ms: AtomicI64,
    pending_bytes: AtomicI64,
}

/// All values of a source at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceReading {
    records_in: u64,
    splits_processed: u64,
    emit_lag_ms: Option<i64>,
    watermark_lag_ms: Option<i64>,
    idle_ms: i64,
    pending_bytes: Option<i64>,
}

impl SourceMetrics {
    /// A source that begins now, in milliseconds since the epoch.
    #[must_use]
    pub fn new(now_ms: i64) -> Self {
        Self {
            records_in: AtomicU64::new(0),
            splits_processed: AtomicU64::new(0),
            emit_lag_ms: AtomicI64::new(UNKNOWN),
            watermark: AtomicI64::new(MIN_TIMESTAMP),
            last_emit_ms: AtomicI64::new(now_ms),
            pending_bytes: AtomicI64::new(UNKNOWN),
        }
    }

    /// What the source tells after a step. Called by one actor.
    pub fn update(&self, figures: &SourceFigures, now_ms: i64) {
        let before = self.records_in.swap(figures.records, Relaxed);
        if figures.records > before {
            self.last_emit_ms.store(now_ms, Relaxed);
            if let Some(event_time) = figures.event_time {
                self.emit_lag_ms.store(now_ms.saturating_sub(event_time), Relaxed);
            }
        }
        self.splits_processed.store(figures.splits_finished, Relaxed);
        self.watermark.store(figures.watermark, Relaxed);
        let pending_bytes = figures.pending_bytes.and_then(|bytes| i64::try_from(bytes).ok());
        self.pending_bytes.store(pending_bytes.unwrap_or(UNKNOWN), Relaxed);
    }
}

type Metric = Instrument<SourceReading>;

impl SourceMetrics {
    /// Flink's logical scope, with dots.
    pub(super) const SCOPE: &'static str = "taskmanager.job.task.operator";
}

impl Measured for SourceMetrics {
    type Reading = SourceReading;

    #[rustfmt::skip]
    const INSTRUMENTS: &'static [Metric] = &[
        Metric::new("numRecordsIn", "{record}", "Records read from outside.", Read::Counter(|r| r.records_in)),
        Metric::new("numSplitsProcessed", "{split}", "Splits read to their end.", Read::Counter(|r| r.splits_processed)),
        Metric::new("currentEmitEventTimeLag", "ms", "Time of the emission minus event time.", Read::Gauge(|r| r.emit_lag_ms)),
        Metric::new("watermarkLag", "ms", "Time now minus watermark.", Read::Gauge(|r| r.watermark_lag_ms)),
        Metric::new("sourceIdleTime", "ms", "Time since the last record.", Read::Gauge(|r| Some(r.idle_ms))),
        Metric::new("pendingBytes", "By", "Bytes known to wait to be read.", Read::Gauge(|r| r.pending_bytes)),
    ];

    fn sample(&self, _now: Now) {}

    fn reading(&self, now: Now) -> SourceReading {
        let known = |value: i64| (value != UNKNOWN).then_some(value);
        let watermark = self.watermark.load(Relaxed);
        // At the end of time nothing lags any more.
        let watermark = (watermark != MIN_TIMESTAMP && watermark != MAX_TIMESTAMP).then_some(watermark);
        SourceReading {
            records_in: self.records_in.load(Relaxed),
            splits_processed: self.splits_processed.load(Relaxed),
            emit_lag_ms: known(self.emit_lag_ms.load(Relaxed)),
            watermark_lag_ms: watermark.map(|watermark| now.wall_ms.saturating_sub(watermark)),
            idle_ms: now.wall_ms.saturating_sub(self.last_emit_ms.load(Relaxed)).max(0),
            pending_bytes: known(self.pending_bytes.load(Relaxed)),
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
        assert_eq!((before.emit_lag_ms, before.watermark_lag_ms, before.pending_bytes), (None, None, None));
        assert_eq!(before.idle_ms, 500);
        let mut figures = SourceFigures {
            records: 10,
            event_time: Some(1_600),
            watermark: 1_550,
            splits_finished: 1,
            pending_bytes: Some(7),
        };
        metrics.update(&figures, 2_000);
        // A step without a record is no emission.
        metrics.update(&figures, 2_050);
        let after = metrics.reading(at(2_100));
        assert_eq!(after.emit_lag_ms, Some(400));
        assert_eq!(after.watermark_lag_ms, Some(550));
        assert_eq!((after.idle_ms, after.pending_bytes), (100, Some(7)));
        assert_eq!((after.records_in, after.splits_processed), (10, 1));
        figures.watermark = MAX_TIMESTAMP;
        metrics.update(&figures, 2_100);
        assert_eq!(metrics.reading(at(2_100)).watermark_lag_ms, None, "the input has ended");
    }
}
