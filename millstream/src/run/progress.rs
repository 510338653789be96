//! Live progress of a run: records per second, watermark, checkpoints, backpressure, and what went wrong meanwhile.

use millstream_actors::job_master::report::JobReport;
use millstream_actors::metrics::subtask::Phase;
use millstream_actors::view::observation::backpressure_level;
use millstream_runtime::job::JobStatus;
use millstream_runtime::time::{MIN_TIMESTAMP, Timestamp};

use super::screen::Screen;
use super::text::{grouped, size, watermark};
use crate::serve::figures::{Figures, Readings, of_vertex};

/// Samples over which the shown rate is taken.
const RATE_SAMPLES: usize = 5;

/// What is shown next depends on what was shown before.
pub(super) struct Progress {
    screen: Screen,
    /// Time and records of the last samples, oldest first.
    samples: Vec<(f64, u64)>,
    failures_told: u64,
}

/// The figures of one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub records: u64,
    pub watermark: Option<Timestamp>,
    pub backpressure: f64,
}

impl Line {
    pub fn of(report: &JobReport, readings: &Readings) -> Self {
        let is_source = |index: usize| report.edges.iter().all(|edge| edge.target != index);
        let mut line = Self::default();
        for (index, vertex) in report.vertices.iter().enumerate() {
            for (_, reading) in of_vertex(readings, vertex.id) {
                line.backpressure = line.backpressure.max(reading.ratio(Phase::BackPressured));
                if is_source(index) {
                    line.records += reading.records_in.max(reading.records_out);
                } else if reading.input_watermark > MIN_TIMESTAMP {
                    let least = line.watermark.get_or_insert(reading.input_watermark);
                    *least = (*least).min(reading.input_watermark);
                }
            }
        }
        line
    }
}

impl Progress {
    pub fn new(screen: Screen) -> Self {
        Self { screen, samples: vec![(0.0, 0)], failures_told: 0 }
    }

    /// Shows how far the job is.
    pub fn show(&mut self, report: &JobReport, figures: &Figures) {
        self.tell_failures(report);
        let line = Line::of(report, &figures.read(report));
        let seconds = figures.elapsed_seconds();
        let rate = self.rate(seconds, line.records);
        self.screen.progress(&text(report, &line, seconds, rate));
    }

    /// Says how far it came, with the rate over the whole run.
    pub fn finish(&mut self, report: &JobReport, figures: &Figures) {
        self.tell_failures(report);
        let line = Line::of(report, &figures.read(report));
        let seconds = figures.elapsed_seconds();
        self.screen.end_progress();
        self.screen.message(&text(report, &line, seconds, (line.records as f64 / seconds.max(0.001)) as u64));
    }

    fn rate(&mut self, seconds: f64, records: u64) -> u64 {
        // Fewer than before: a restart counts anew.
        if self.samples.last().is_some_and(|(_, before)| *before > records) {
            self.samples.clear();
        }
        self.samples.push((seconds, records));
        if self.samples.len() > RATE_SAMPLES {
            self.samples.remove(0);
        }
        match (self.samples.first(), self.samples.last()) {
            (Some((from, first)), Some((to, last))) if to > from => ((last - first) as f64 / (to - from)) as u64,
            _ => 0,
        }
    }

    fn tell_failures(&mut self, report: &JobReport) {
        if report.restarts > self.failures_told {
            self.failures_told = report.restarts;
            if let Some(failure) = report.exceptions.latest() {
                let of = failure.subtask_name.as_deref().unwrap_or("the job");
                self.screen.message(&format!("restart {}: {of} failed: {}", report.restarts, failure.message));
            }
        }
    }
}

fn text(report: &JobReport, line: &Line, seconds: f64, rate: u64) -> String {
    let counts = report.checkpoints.counts();
    let last = report.checkpoints.latest_completed().map_or_else(String::new, |last| {
        let (millis, bytes) = (last.end_to_end_duration_ms, size(last.checkpointed_size_bytes));
        format!(" (last {millis} ms, {bytes})")
    });
    let failed = if counts.failed > 0 { format!(", {} failed", counts.failed) } else { String::new() };
    let status = match report.status {
        JobStatus::Running => String::new(),
        other => format!("{other}  "),
    };
    format!(
        "{seconds:6.1} s  {status}{} records ({}/s)  watermark {}  checkpoints {}{last}{failed}  backpressure {} ({:.0} %)",
        grouped(line.records),
        grouped(rate),
        line.watermark.map_or_else(|| "-".to_string(), watermark),
        counts.completed,
        backpressure_level(line.backpressure),
        line.backpressure * 100.0,
    )
}
