//! Reads the files of one subtask: always on with the one that is furthest behind in event time.

use std::path::PathBuf;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{Polled, ReaderContext, SourceReader, Split, SplitIndex, SplitProgress};
use millstream_runtime::time::Timestamp;

use super::FileOptions;
use super::format::LineFormat;
use super::growth::Growth;
use super::open_split::{ChunkPlan, OpenSplit, Phase, Step};

/// Files whose first chunk is read before they are needed.
const FILES_AHEAD: usize = 4;
/// Plain files beyond this number are closed between two chunks.
const MAX_OPEN_FILES: usize = 256;
/// Chunks get smaller when more than this would be held for all files of a reader.
const CHUNK_BUDGET_BYTES: usize = 64 * 1024 * 1024;
/// But not smaller than this.
const MIN_CHUNK_BYTES: usize = 16 * 1024;

pub(super) struct FileReader<F: LineFormat> {
    format: F,
    folder: PathBuf,
    options: FileOptions,
    context: ReaderContext,
    splits: Vec<OpenSplit<F>>,
    /// Splits in [`Phase::Reading`], ascending.
    reading: Vec<usize>,
    /// Splits below this index have been asked for their first chunk.
    asked: usize,
    no_more_splits: bool,
    growth: Option<Growth>,
}

impl<F: LineFormat> FileReader<F> {
    pub fn new(format: F, folder: PathBuf, options: FileOptions, context: ReaderContext) -> Self {
        let growth = options.watch_interval_ms.map(|interval| Growth::new(interval, context.clone()));
        Self {
            format,
            folder,
            options,
            context,
            splits: Vec::new(),
            reading: Vec::new(),
            asked: 0,
            no_more_splits: false,
            growth,
        }
    }

    fn plan(&self) -> ChunkPlan {
        let live = self.reading.len().max(1);
        // Two chunks a file: one is decoded while the next is read.
        let share = CHUNK_BUDGET_BYTES / (2 * live);
        ChunkPlan {
            chunk_bytes: self.options.chunk_bytes.min(share.max(MIN_CHUNK_BYTES)),
            keep_open: live <= MAX_OPEN_FILES,
        }
    }

    fn furthest_behind(&self, progress: &dyn SplitProgress) -> Option<usize> {
        self.reading.iter().copied().min_by_key(|index| (progress.watermark(SplitIndex(*index)), *index))
    }

    /// Asks for the first chunks of the splits up to a few behind this one.
    fn ask_ahead(&mut self, index: usize, plan: ChunkPlan) {
        let until = self.splits.len().min(index.saturating_add(FILES_AHEAD));
        while self.asked < until {
            self.splits[self.asked].read_ahead(plan);
            self.asked += 1;
        }
    }

    fn notice_growth(&mut self) -> Result<(), PortError> {
        let Some(growth) = &mut self.growth else { return Ok(()) };
        let splits = &mut self.splits;
        for (index, length) in growth.take().into_iter().flatten() {
            splits[index].seen(length?)?;
            let place = self.reading.binary_search(&index);
            if let (Phase::Reading, Err(place)) = (splits[index].phase, place) {
                self.reading.insert(place, index);
            }
        }
        let tailed = || splits.iter().enumerate().filter(|(_, split)| split.phase == Phase::Tailing);
        if tailed().next().is_some() {
            growth.tick(tailed().map(|(index, split)| (index, split.path.clone())));
        }
        Ok(())
    }

    fn stop_reading(&mut self, index: usize) {
        self.reading.retain(|other| *other != index);
    }
}

impl<F: LineFormat> SourceReader<F::Record> for FileReader<F> {
    fn add_splits(&mut self, splits: Vec<Split>, floor: Timestamp) -> Result<(), PortError> {
        let tails = self.growth.is_some();
        for split in splits {
            let max_line_bytes = self.options.max_line_bytes;
            let split = OpenSplit::new(split, &self.folder, floor, max_line_bytes, tails, &self.context)?;
            self.reading.push(self.splits.len());
            self.splits.push(split);
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more_splits = true;
    }

    fn poll(
        &mut self,
        progress: &dyn SplitProgress,
        max_rows: usize,
        rows: &mut Vec<F::Record>,
    ) -> Result<Polled, PortError> {
        self.notice_growth()?;
        let Some(index) = self.furthest_behind(progress) else {
            let finished = self.no_more_splits && self.splits.iter().all(|split| split.phase == Phase::Finished);
            return Ok(if finished { Polled::EndOfInput } else { Polled::Waiting });
        };
        let plan = self.plan();
        self.ask_ahead(index, plan);
        let step = self.splits[index].advance(&self.format, plan, max_rows, rows)?;
        Ok(match step {
            Step::Rows => Polled::Rows(SplitIndex(index)),
            Step::NotReady => Polled::Waiting,
            Step::Idle => {
                self.stop_reading(index);
                Polled::Idle(SplitIndex(index))
            }
            Step::Finished => {
                self.stop_reading(index);
                Polled::Finished(SplitIndex(index))
            }
        })
    }

    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError> {
        let unfinished = self.splits.iter().enumerate().filter(|(_, split)| split.phase != Phase::Finished);
        unfinished.map(|(index, split)| Ok((SplitIndex(index), split.snapshot()?))).collect()
    }

    fn pending_bytes(&self) -> Option<u64> {
        Some(self.reading.iter().map(|index| self.splits[*index].pending_bytes()).sum())
    }
}
