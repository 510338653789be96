//! What a file's lines mean: the door between the file reader and a job's own records.

use millstream_runtime::batch::Data;
use millstream_runtime::ports::PortError;
use millstream_runtime::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Name of the file, without its folder.
    pub file: &'a str,
    /// Number of the line, from 1; blank lines are counted too.
    pub number: u64,
    /// First byte of the line in the uncompressed file.
    pub offset: u64,
    /// The line exactly as it stands in the file, without the newline; a carriage return before it is kept.
    pub bytes: &'a [u8],
    /// What the job had promised downstream when this file was found: a row with an event time at or below it is
    /// late. `MIN_TIMESTAMP` for files present at the start.
    pub floor: Timestamp,
}

/// Decodes lines into records. Cloned into every reader; what it must remember between the lines of a file is its
/// `SplitState`, which is part of the checkpoint.
pub trait LineFormat: Clone + Send + Sync + 'static {
    /// What a line becomes.
    type Record: Data;
    /// What is remembered per file. Starts at its default with the first line.
    type SplitState: Default + Clone + Serialize + DeserializeOwned + Send;

    /// Appends the records of one line: none, one or several. Blank lines (nothing but ASCII white space) are not
    /// given.
    fn decode(&self, state: &mut Self::SplitState, line: Line<'_>, out: &mut Vec<Self::Record>);

    /// Called instead of [`decode`](Self::decode) for a line longer than the source's limit: `line.bytes` holds only
    /// its first bytes, `length` says how long it is. Decodes these first bytes unless implemented otherwise.
    fn oversized(&self, state: &mut Self::SplitState, line: Line<'_>, length: u64, out: &mut Vec<Self::Record>) {
        let _ = length;
        self.decode(state, line, out);
    }

    /// Asked after every batch: an error ends the job. For formats that refuse bad lines instead of passing them on.
    fn failure(&self, state: &Self::SplitState) -> Option<PortError> {
        let _ = state;
        None
    }
}
