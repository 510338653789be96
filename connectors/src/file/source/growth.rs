//! Notices that tailed files have grown: looks at their sizes once per interval, on the blocking executor.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::ReaderContext;
use millstream_runtime::time::Timestamp;

use super::content::length_of;
use crate::error::lock;

/// Sizes of files, by index of their split.
pub(super) type Sizes = Vec<(usize, Result<u64, PortError>)>;

pub(super) struct Growth {
    interval_ms: u64,
    context: ReaderContext,
    /// When the last look ended.
    looked_ms: Option<Timestamp>,
    looking: bool,
    /// When the wake-up that was asked for is due.
    wake_due_ms: Option<Timestamp>,
    result: Arc<Mutex<Option<Sizes>>>,
}

impl Growth {
    pub fn new(interval_ms: u64, context: ReaderContext) -> Self {
        Self { interval_ms, context, looked_ms: None, looking: false, wake_due_ms: None, result: Arc::default() }
    }

    /// What the last look has found, once.
    pub fn take(&mut self) -> Option<Sizes> {
        let sizes = lock(&self.result).take()?;
        self.looking = false;
        self.looked_ms = Some(self.context.clock.now_ms());
        Some(sizes)
    }

    /// Sees to it that the files will be looked at one interval after the last look.
    pub fn tick(&mut self, files: impl Iterator<Item = (usize, PathBuf)>) {
        if self.looking {
            return;
        }
        let now = self.context.clock.now_ms();
        let looked = *self.looked_ms.get_or_insert(now);
        let interval = i64::try_from(self.interval_ms).unwrap_or(i64::MAX);
        let due = looked.saturating_add(interval);
        // A clock that was set back must not stop the tail.
        if now < due && now >= looked {
            if self.wake_due_ms != Some(due) {
                self.wake_due_ms = Some(due);
                (self.context.wake_after)(due.abs_diff(now));
            }
            return;
        }
        self.looking = true;
        let files: Vec<_> = files.collect();
        let result = Arc::clone(&self.result);
        let waker = self.context.waker.clone();
        self.context.blocking.run(Box::new(move || {
            let sizes = files.into_iter().map(|(index, path)| (index, length_of(&path))).collect();
            *lock(&result) = Some(sizes);
            waker.wake();
        }));
    }
}
