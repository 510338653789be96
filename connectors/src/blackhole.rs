//! A sink that forgets every row: for measuring what comes before it.

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::ids::CutNumber;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{Committer, PrepareWork, SinkContext, SinkWork, SinkWriter, TwoPhaseCommitSink};

use crate::print::NothingToCommit;

/// Drops every row.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlackholeSink;

impl<T: Data> TwoPhaseCommitSink<T> for BlackholeSink {
    type Committable = ();

    fn writer(&self, _context: SinkContext) -> Result<Box<dyn SinkWriter<T, ()>>, PortError> {
        Ok(Box::new(*self))
    }

    fn committer(&self, _context: SinkContext) -> Result<Box<dyn Committer<()>>, PortError> {
        Ok(Box::new(NothingToCommit))
    }
}

impl<T: Data> SinkWriter<T, ()> for BlackholeSink {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        drop(rows);
        Ok(None)
    }

    fn prepare(&mut self, _cut: CutNumber) -> Result<PrepareWork<()>, PortError> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}
