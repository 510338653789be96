//! JSON lines into any type that serde can read, with a policy for lines that it cannot.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_runtime::batch::Data;
use millstream_runtime::ports::PortError;
use serde::{Deserialize, Serialize};

use super::format::{Line, LineFormat};

/// What happens to a line that is not a `T`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadLines {
    /// The job fails and names file and line.
    #[default]
    Fail,
    /// The line is left out and counted; the first of each file is logged.
    Skip,
}

/// A [`LineFormat`] for one JSON value a line.
pub struct JsonLines<T> {
    bad_lines: BadLines,
    skipped: Arc<AtomicU64>,
    record: PhantomData<fn() -> T>,
}

/// What [`JsonLines`] remembers of a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JsonLinesState {
    /// Bad lines left out of this file.
    pub skipped: u64,
    /// The bad line that ends the job.
    #[serde(skip)]
    failure: Option<String>,
}

impl<T> JsonLines<T> {
    /// The format with the given policy.
    #[must_use]
    pub fn new(bad_lines: BadLines) -> Self {
        Self { bad_lines, skipped: Arc::default(), record: PhantomData }
    }

    /// Lines left out by all readers of this process since it started.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

impl<T> Default for JsonLines<T> {
    fn default() -> Self {
        Self::new(BadLines::default())
    }
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self { bad_lines: self.bad_lines, skipped: Arc::clone(&self.skipped), record: PhantomData }
    }
}

impl<T: Data> LineFormat for JsonLines<T> {
    type Record = T;
    type SplitState = JsonLinesState;

    fn decode(&self, state: &mut JsonLinesState, line: Line<'_>, out: &mut Vec<T>) {
        match serde_json::from_slice(line.bytes) {
            Ok(record) => out.push(record),
            Err(error) => self.refuse(state, line, &error),
        }
    }

    fn failure(&self, state: &JsonLinesState) -> Option<PortError> {
        state.failure.as_ref().map(|message| PortError::fix_input(message.clone()))
    }
}

impl<T> JsonLines<T> {
    #[cold]
    fn refuse(&self, state: &mut JsonLinesState, line: Line<'_>, error: &serde_json::Error) {
        let message = format!(
            "{}, line {} (byte {}) is not the JSON that is expected: {error}; correct the line or read with \
             bad lines skipped",
            line.file, line.number, line.offset
        );
        match self.bad_lines {
            BadLines::Fail => {
                state.failure.get_or_insert(message);
            }
            BadLines::Skip => {
                if state.skipped == 0 {
                    tracing::warn!("{message}; this and further bad lines of the file are left out");
                }
                state.skipped += 1;
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
