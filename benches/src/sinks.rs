//! A sink that shows every batch to a closure. Benchmarks check answers with it; it commits nothing.

use std::sync::Arc;

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::ids::CutNumber;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{
    Committer, OlderAttempts, PrepareWork, SinkContext, SinkWork, SinkWriter, TwoPhaseCommitSink,
};

/// Called with every batch.
pub type Look<T> = Box<dyn FnMut(Rows<T>) + Send>;

/// Calls a closure with every batch; `make` makes one for each subtask and attempt.
pub struct ShowTo<T> {
    make: Arc<dyn Fn(SinkContext) -> Look<T> + Send + Sync>,
}

impl<T> ShowTo<T> {
    /// Shows to what `make` makes.
    pub fn new(make: impl Fn(SinkContext) -> Look<T> + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make) }
    }
}

impl<T: Data> TwoPhaseCommitSink<T> for ShowTo<T> {
    type Committable = ();

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, ()>>, PortError> {
        Ok(Box::new(Shower((self.make)(context))))
    }

    fn committer(&self, _context: SinkContext) -> Result<Box<dyn Committer<()>>, PortError> {
        Ok(Box::new(Nothing))
    }
}

struct Shower<T>(Look<T>);

impl<T: Data> SinkWriter<T, ()> for Shower<T> {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        (self.0)(rows);
        Ok(None)
    }

    fn prepare(&mut self, _cut: CutNumber) -> Result<PrepareWork<()>, PortError> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}

struct Nothing;

impl Committer<()> for Nothing {
    fn abort_unlisted(&mut self, _pending: &[()], _older: &OlderAttempts) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, _transactions: Vec<()>) -> Result<(), PortError> {
        Ok(())
    }
}
