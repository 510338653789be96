//! What a subtask counts: records, bytes, watermarks, and how it spends its time. Written by the subtask's actor once a
//! batch with relaxed atomics; read by REST, Prometheus and the sampler.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};
use serde::{Deserialize, Serialize};

use super::instrument::{Instrument, Measured, Now, Read, values};
use crate::view::job::IoMetrics;

/// What a subtask does just now. Every moment belongs to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Waits for input.
    Idle = 0,
    /// Works.
    Busy = 1,
    /// Has input but waits for credit of an output.
    BackPressured = 2,
}

/// Counters and gauges of one attempt of a subtask.
///
/// One actor writes; a reading taken while a phase ends may be off by that phase, which the next one corrects.
#[derive(Debug)]
pub struct SubtaskMetrics {
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    late_records_dropped: AtomicU64,
    fired_timers: AtomicU64,
    input_watermark: AtomicI64,
    output_watermark: AtomicI64,
    queued_batches: AtomicU64,
    state_bytes: AtomicU64,
    checkpoint_start_delay_ns: AtomicI64,
    checkpoint_alignment_ns: AtomicI64,
    phase: AtomicU8,
    phase_since_ns: AtomicU64,
    /// Finished phases, by `Phase`.
    time_ns: [AtomicU64; 3],
    rates: Mutex<Sampled>,
}

/// The counters of the last sample and the rates since the one before.
#[derive(Clone, Copy, Debug)]
struct Sampled {
    at_ns: u64,
    /// Records in, records out, bytes in, bytes out, timers.
    counts: [u64; 5],
    time_ns: [u64; 3],
    per_second: [f64; 5],
    time_ms_per_second: [f64; 3],
}

/// All values of a subtask at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskReading {
    /// Records received.
    pub records_in: u64,
    /// Records sent.
    pub records_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Records dropped because they were late.
    pub late_records_dropped: u64,
    /// Timers fired.
    pub fired_timers: u64,
    /// Watermark of the input.
    pub input_watermark: Timestamp,
    /// Watermark of the output.
    pub output_watermark: Timestamp,
    /// Batches waiting in the mailbox or parked.
    pub queued_batches: u64,
    /// What keyed state takes in memory, as it was looked at last.
    pub state_bytes: u64,
    /// From the trigger of the last checkpoint to its first barrier.
    pub checkpoint_start_delay_ns: i64,
    /// From the first to the last barrier of the last checkpoint.
    pub checkpoint_alignment_ns: i64,
    /// Nanoseconds since the attempt began, by `Phase`.
    pub time_ns: [u64; 3],
    /// Milliseconds per second of the last sampling interval, by `Phase`.
    pub time_ms_per_second: [f64; 3],
    /// Records in, records out, bytes in, bytes out, timers per second of the last sampling interval.
    pub per_second: [f64; 5],
}

impl SubtaskReading {
    /// Part of the last sampling interval spent in a phase, 0 to 1.
    #[must_use]
    pub fn ratio(&self, phase: Phase) -> f64 {
        self.time_ms_per_second[phase as usize] / 1_000.0
    }

    /// By Flink's names, as REST shows them.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        values::<SubtaskMetrics>(self)
    }

    /// Time since the attempt began: of two readings of an attempt, the one with more of it is the newer one.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.time_ns.iter().sum()
    }

    /// Input and output as REST shows them.
    #[must_use]
    pub fn io(&self) -> IoMetrics {
        let millis = |phase: Phase| self.time_ns[phase as usize] / 1_000_000;
        IoMetrics {
            read_bytes: self.bytes_in,
            write_bytes: self.bytes_out,
            read_records: self.records_in,
            write_records: self.records_out,
            accumulated_backpressured_time: millis(Phase::BackPressured),
            accumulated_idle_time: millis(Phase::Idle),
            accumulated_busy_time: millis(Phase::Busy) as f64,
            ..IoMetrics::zero()
        }
    }
}

impl SubtaskMetrics {
    /// A subtask that begins, idle, at this time of the monotonic clock that all later calls use.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            late_records_dropped: AtomicU64::new(0),
            fired_timers: AtomicU64::new(0),
            input_watermark: AtomicI64::new(MIN_TIMESTAMP),
            output_watermark: AtomicI64::new(MIN_TIMESTAMP),
            queued_batches: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
            checkpoint_start_delay_ns: AtomicI64::new(0),
            checkpoint_alignment_ns: AtomicI64::new(0),
            phase: AtomicU8::new(Phase::Idle as u8),
            phase_since_ns: AtomicU64::new(now_ns),
            time_ns: [const { AtomicU64::new(0) }; 3],
            rates: Mutex::new(Sampled {
                at_ns: now_ns,
                counts: [0; 5],
                time_ns: [0; 3],
                per_second: [0.0; 5],
                time_ms_per_second: [0.0; 3],
            }),
        }
    }

    /// A batch came in.
    #[inline]
    pub fn add_in(&self, records: u64, bytes: u64) {
        self.records_in.fetch_add(records, Relaxed);
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// A batch went out.
    #[inline]
    pub fn add_out(&self, records: u64, bytes: u64) {
        self.records_out.fetch_add(records, Relaxed);
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    /// Records were dropped because they were late.
    #[inline]
    pub fn add_late_dropped(&self, records: u64) {
        self.late_records_dropped.fetch_add(records, Relaxed);
    }

    /// Timers fired.
    #[inline]
    pub fn add_fired_timers(&self, timers: u64) {
        self.fired_timers.fetch_add(timers, Relaxed);
    }

    /// The minimum over the inputs moved.
    #[inline]
    pub fn set_input_watermark(&self, watermark: Timestamp) {
        self.input_watermark.store(watermark, Relaxed);
    }

    /// Last watermark sent.
    #[must_use]
    pub fn output_watermark(&self) -> Timestamp {
        self.output_watermark.load(Relaxed)
    }

    /// A watermark was sent.
    #[inline]
    pub fn set_output_watermark(&self, watermark: Timestamp) {
        self.output_watermark.store(watermark, Relaxed);
    }

    /// Sets what keyed state takes in memory.
    pub fn set_state_bytes(&self, bytes: u64) {
        self.state_bytes.store(bytes, Relaxed);
    }

    /// Batches that wait.
    #[inline]
    pub fn set_queued_batches(&self, batches: u64) {
        self.queued_batches.store(batches, Relaxed);
    }

    /// The barriers of a checkpoint are all here.
    pub fn checkpoint_aligned(&self, start_delay_ns: i64, alignment_ns: i64) {
        self.checkpoint_start_delay_ns.store(start_delay_ns, Relaxed);
        self.checkpoint_alignment_ns.store(alignment_ns, Relaxed);
    }

    /// Another phase begins; the time since the last call belongs to the one before.
    #[inline]
    pub fn enter(&self, phase: Phase, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.phase_since_ns.swap(now_ns, Relaxed));
        let before = self.phase.swap(phase as u8, Relaxed);
        self.time_ns[usize::from(before)].fetch_add(elapsed, Relaxed);
    }

    /// Time in each phase until now, the present phase included.
    fn time_until(&self, now_ns: u64) -> [u64; 3] {
        let mut time_ns = [0; 3];
        for (sum, time) in time_ns.iter_mut().zip(&self.time_ns) {
            *sum = time.load(Relaxed);
        }
        let present = usize::from(self.phase.load(Relaxed));
        time_ns[present] += now_ns.saturating_sub(self.phase_since_ns.load(Relaxed));
        time_ns
    }

    fn counts(&self) -> [u64; 5] {
        [&self.records_in, &self.records_out, &self.bytes_in, &self.bytes_out, &self.fired_timers]
            .map(|counter| counter.load(Relaxed))
    }
}

type Metric = Instrument<SubtaskReading>;

/// Milliseconds per second as the whole number that Flink reports.
fn whole(reading: &SubtaskReading, phase: Phase) -> Option<i64> {
    Some(reading.time_ms_per_second[phase as usize].round() as i64)
}

impl SubtaskMetrics {
    /// Flink's logical scope, with dots.
    pub(super) const SCOPE: &'static str = "taskmanager.job.task";
}

impl Measured for SubtaskMetrics {
    type Reading = SubtaskReading;

    #[rustfmt::skip]
    const INSTRUMENTS: &'static [Metric] = &[
        Metric::new("numRecordsIn", "{record}", "Records received.", Read::Counter(|r| r.records_in)),
        Metric::new("numRecordsInPerSecond", "{record}/s", "Records received per second.", Read::Rate(|r| r.per_second[0])),
        Metric::new("numRecordsOut", "{record}", "Records sent.", Read::Counter(|r| r.records_out)),
        Metric::new("numRecordsOutPerSecond", "{record}/s", "Records sent per second.", Read::Rate(|r| r.per_second[1])),
        Metric::new("numBytesIn", "By", "Bytes received.", Read::Counter(|r| r.bytes_in)),
        Metric::new("numBytesInPerSecond", "By/s", "Bytes received per second.", Read::Rate(|r| r.per_second[2])),
        Metric::new("numBytesOut", "By", "Bytes sent.", Read::Counter(|r| r.bytes_out)),
        Metric::new("numBytesOutPerSecond", "By/s", "Bytes sent per second.", Read::Rate(|r| r.per_second[3])),
        Metric::new("numFiredTimers", "{timer}", "Timers fired.", Read::Counter(|r| r.fired_timers)),
        Metric::new("numFiredTimersPerSecond", "{timer}/s", "Timers fired per second.", Read::Rate(|r| r.per_second[4])),
        Metric::new("numLateRecordsDropped", "{record}", "Records dropped because they were late.", Read::Counter(|r| r.late_records_dropped)),
        Metric::new("currentInputWatermark", "ms", "Last watermark of the input.", Read::Gauge(|r| Some(r.input_watermark))),
        Metric::new("currentOutputWatermark", "ms", "Last watermark sent.", Read::Gauge(|r| Some(r.output_watermark))),
        Metric::new("keyedStateMemory", "By", "Memory of keyed state, about, as it was looked at last.", Read::Gauge(|r| i64::try_from(r.state_bytes).ok())),
        Metric::new("mailboxQueueSize", "{batch}", "Batches that wait to be processed.", Read::Gauge(|r| i64::try_from(r.queued_batches).ok())),
        Metric::new("busyTimeMsPerSecond", "ms/s", "Time working, per second.", Read::Rate(|r| r.time_ms_per_second[Phase::Busy as usize])),
        Metric::new("idleTimeMsPerSecond", "ms/s", "Time without input, per second.", Read::Gauge(|r| whole(r, Phase::Idle))),
        Metric::new("backPressuredTimeMsPerSecond", "ms/s", "Time waiting for credit, per second.", Read::Gauge(|r| whole(r, Phase::BackPressured))),
        Metric::new("softBackPressuredTimeMsPerSecond", "ms/s", "The same: a subtask that waits still answers.", Read::Gauge(|r| whole(r, Phase::BackPressured))),
        Metric::new("hardBackPressuredTimeMsPerSecond", "ms/s", "Always 0: a subtask never blocks.", Read::Gauge(|_| Some(0))),
        Metric::new("isBackPressured", "", "Whether the subtask waited for credit for more than half of the time.", Read::Flag(|r| r.ratio(Phase::BackPressured) > 0.5)),
        Metric::new("accumulateBusyTimeMs", "ms", "Time working.", Read::Rate(|r| (r.time_ns[Phase::Busy as usize] / 1_000_000) as f64)),
        Metric::new("accumulateIdleTimeMs", "ms", "Time without input.", Read::Counter(|r| r.time_ns[Phase::Idle as usize] / 1_000_000)),
        Metric::new("accumulateBackPressuredTimeMs", "ms", "Time waiting for credit.", Read::Counter(|r| r.time_ns[Phase::BackPressured as usize] / 1_000_000)),
        Metric::new("checkpointStartDelayNanos", "ns", "From the trigger of the last checkpoint to its first barrier.", Read::Gauge(|r| Some(r.checkpoint_start_delay_ns))),
        Metric::new("checkpointAlignmentTime", "ns", "From the first to the last barrier of the last checkpoint.", Read::Gauge(|r| Some(r.checkpoint_alignment_ns))),
    ];

    fn sample(&self, now: Now) {
        let (counts, time_ns) = (self.counts(), self.time_until(now.monotonic_ns));
        let mut last = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed_ns = now.monotonic_ns.saturating_sub(last.at_ns);
        if elapsed_ns == 0 {
            return;
        }
        let seconds = elapsed_ns as f64 / 1e9;
        *last = Sampled {
            at_ns: now.monotonic_ns,
            counts,
            time_ns,
            per_second: std::array::from_fn(|index| counts[index].saturating_sub(last.counts[index]) as f64 / seconds),
            time_ms_per_second: std::array::from_fn(|index| {
                let millis = time_ns[index].saturating_sub(last.time_ns[index]) as f64 / 1e6;
                (millis / seconds).min(1_000.0)
            }),
        };
    }

    fn reading(&self, now: Now) -> SubtaskReading {
        let [records_in, records_out, bytes_in, bytes_out, fired_timers] = self.counts();
        let rates = *self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        SubtaskReading {
            records_in,
            records_out,
            bytes_in,
            bytes_out,
            late_records_dropped: self.late_records_dropped.load(Relaxed),
            fired_timers,
            input_watermark: self.input_watermark.load(Relaxed),
            output_watermark: self.output_watermark.load(Relaxed),
            queued_batches: self.queued_batches.load(Relaxed),
            state_bytes: self.state_bytes.load(Relaxed),
            checkpoint_start_delay_ns: self.checkpoint_start_delay_ns.load(Relaxed),
            checkpoint_alignment_ns: self.checkpoint_alignment_ns.load(Relaxed),
            time_ns: self.time_until(now.monotonic_ns),
            time_ms_per_second: rates.time_ms_per_second,
            per_second: rates.per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(monotonic_ns: u64) -> Now {
        Now { wall_ms: 0, monotonic_ns }
    }

    #[test]
    fn rates_cover_the_time_since_the_last_sample() {
        let metrics = SubtaskMetrics::new(0);
        metrics.add_in(1_000, 8_000);
        metrics.sample(at(2 * SECOND));
        let reading = metrics.reading(at(2 * SECOND));
        assert_eq!(reading.per_second[..4], [500.0, 0.0, 4_000.0, 0.0]);
        metrics.add_out(30, 60);
        metrics.sample(at(3 * SECOND));
        let reading = metrics.reading(at(3 * SECOND));
        assert_eq!(reading.per_second[..4], [0.0, 30.0, 0.0, 60.0]);
        assert_eq!((reading.records_in, reading.records_out), (1_000, 30));
    }

    #[test]
    fn every_moment_belongs_to_one_phase_even_while_it_lasts() {
        let metrics = SubtaskMetrics::new(0);
        metrics.enter(Phase::Busy, SECOND / 4);
        metrics.enter(Phase::BackPressured, SECOND / 2);
        metrics.sample(at(SECOND));
        let reading = metrics.reading(at(SECOND));
        assert_eq!(reading.time_ms_per_second, [250.0, 250.0, 500.0]);
        // Nothing happens for a second: all of it is backpressure.
        metrics.sample(at(2 * SECOND));
        let reading = metrics.reading(at(2 * SECOND));
        assert_eq!(reading.time_ms_per_second, [0.0, 0.0, 1_000.0]);
        assert_eq!(reading.io().accumulated_backpressured_time, 1_500);
        assert!((reading.ratio(Phase::BackPressured) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn two_samples_at_the_same_time_keep_the_rates() {
        let metrics = SubtaskMetrics::new(0);
        metrics.add_in(10, 0);
        metrics.sample(at(SECOND));
        metrics.sample(at(SECOND));
        assert_eq!(metrics.reading(at(SECOND)).per_second[0], 10.0);
    }

    #[test]
    fn a_subtask_without_watermark_reports_flinks_smallest_number() {
        let reading = SubtaskMetrics::new(0).reading(at(0));
        let watermark = SubtaskMetrics::INSTRUMENTS.iter().find(|metric| metric.name == "currentInputWatermark");
        assert_eq!(watermark.and_then(|metric| metric.text(&reading)).as_deref(), Some("-9223372036854775808"));
    }
}
