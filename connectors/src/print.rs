//! Rows on standard output, one a line: for looking at a job, at least once.

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::ids::CutNumber;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{
    Committer, OlderAttempts, PrepareWork, SinkContext, SinkWork, SinkWriter, TwoPhaseCommitSink,
};

use crate::error::lock;

type Output = Arc<Mutex<dyn Write + Send>>;

/// Prints rows as Flink does: `prefix:subtask> row`, the subtask counted from 1 and left out when there is only one.
/// After a restart, rows since the last checkpoint are printed again.
pub struct PrintSink<T> {
    prefix: String,
    encode: fn(&T, &mut Vec<u8>),
    output: Output,
}

impl<T: Data> PrintSink<T> {
    /// Prints rows in their debug form; an empty prefix prints none.
    #[must_use]
    pub fn new(prefix: &str) -> Self
    where
        T: Debug,
    {
        // Writing into memory does not fail; a row whose `Debug` fails is cut off there.
        Self::lines(prefix, |row, out| drop(write!(out, "{row:?}")))
    }

    /// Prints lines that the encoder appends without their newline.
    #[must_use]
    pub fn lines(prefix: &str, encode: fn(&T, &mut Vec<u8>)) -> Self {
        Self { prefix: prefix.to_string(), encode, output: Arc::new(Mutex::new(io::stdout())) }
    }

    /// Prints to something other than standard output.
    #[must_use]
    pub fn to_output(mut self, output: Arc<Mutex<dyn Write + Send>>) -> Self {
        self.output = output;
        self
    }
}

impl<T: Data> TwoPhaseCommitSink<T> for PrintSink<T> {
    type Committable = ();

    fn writer(&self, context: SinkContext) -> Result<Box<dyn SinkWriter<T, ()>>, PortError> {
        let number = context.subtask.0 + 1;
        let prefix = match (self.prefix.as_str(), context.parallelism > 1) {
            ("", false) => String::new(),
            ("", true) => format!("{number}> "),
            (prefix, false) => format!("{prefix}> "),
            (prefix, true) => format!("{prefix}:{number}> "),
        };
        let output = Arc::clone(&self.output);
        let unwritten = Arc::default();
        Ok(Box::new(PrintWriter { prefix: prefix.into_bytes(), encode: self.encode, output, unwritten }))
    }

    fn committer(&self, _context: SinkContext) -> Result<Box<dyn Committer<()>>, PortError> {
        Ok(Box::new(NothingToCommit))
    }
}

struct PrintWriter<T> {
    prefix: Vec<u8>,
    encode: fn(&T, &mut Vec<u8>),
    output: Output,
    /// Rows of the write under way.
    unwritten: Arc<Mutex<Rows<T>>>,
}

impl<T: Data> SinkWriter<T, ()> for PrintWriter<T> {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        let mut lines = Vec::new();
        for row in &rows.values {
            lines.extend_from_slice(&self.prefix);
            (self.encode)(row, &mut lines);
            lines.push(b'\n');
        }
        if lines.is_empty() {
            return Ok(None);
        }
        *lock(&self.unwritten) = rows;
        let (output, unwritten) = (Arc::clone(&self.output), Arc::clone(&self.unwritten));
        Ok(Some(Box::new(move || {
            let mut output = lock(&output);
            output.write_all(&lines).and_then(|()| output.flush()).map_err(|error| {
                PortError::fix_input(format!(
                    "cannot print rows: {error}; whoever reads the output must go on until the job ends"
                ))
            })?;
            *lock(&unwritten) = Rows::default();
            Ok(())
        })))
    }

    /// Whoever reads the output may stop for a while, as a full terminal does: no checkpoint waits for that.
    fn may_be_overtaken(&self) -> bool {
        true
    }

    fn prepare_ahead(&mut self, cut: CutNumber) -> Result<(Rows<T>, PrepareWork<()>), PortError> {
        let unwritten = lock(&self.unwritten).clone();
        Ok((unwritten, self.prepare(cut)?))
    }

    fn prepare(&mut self, _cut: CutNumber) -> Result<PrepareWork<()>, PortError> {
        Ok(Box::new(|| Ok(Vec::new())))
    }
}

/// For sinks whose rows are out when they are written.
pub(crate) struct NothingToCommit;

impl Committer<()> for NothingToCommit {
    fn abort_unlisted(&mut self, _pending: &[()], _older: &OlderAttempts) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, _transactions: Vec<()>) -> Result<(), PortError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use millstream_runtime::ids::{AttemptId, JobId, SubtaskIndex};

    use super::*;

    fn writer_to(output: Output, prefix: &str, parallelism: u32) -> Box<dyn SinkWriter<(u64, String), ()>> {
        let sink = PrintSink::<(u64, String)>::new(prefix).to_output(output);
        let (job, attempt) = (JobId::from_name("job"), AttemptId::default());
        sink.writer(SinkContext { job, attempt, subtask: SubtaskIndex(1), parallelism }).unwrap()
    }

    fn rows() -> Rows<(u64, String)> {
        Rows::untimed(vec![(1, "a".to_string())])
    }

    #[test]
    fn a_cut_in_the_middle_of_a_write_takes_the_rows_that_are_not_out() {
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut writer = writer_to(output, "", 1);
        let work = writer.write(rows()).unwrap().unwrap();
        assert!(writer.may_be_overtaken());
        assert_eq!(writer.prepare_ahead(CutNumber(1)).unwrap().0.values, rows().values);
        work().unwrap();
        assert!(writer.prepare_ahead(CutNumber(2)).unwrap().0.values.is_empty(), "now they are");
    }

    #[test]
    fn rows_are_printed_with_prefix_and_subtask() {
        for (prefix, parallelism, wanted) in [
            ("p", 2, "p:2> (1, \"a\")\n"),
            ("p", 1, "p> (1, \"a\")\n"),
            ("", 2, "2> (1, \"a\")\n"),
            ("", 1, "(1, \"a\")\n"),
        ] {
            let output = Arc::new(Mutex::new(Vec::new()));
            let mut writer = writer_to(output.clone(), prefix, parallelism);
            let work = writer.write(rows()).unwrap().unwrap();
            assert!(lock(&output).is_empty(), "nothing is printed in the handler");
            work().unwrap();
            assert_eq!(String::from_utf8(lock(&output).clone()).unwrap(), wanted);
            assert!(writer.write(Rows::default()).unwrap().is_none());
        }
    }
}
