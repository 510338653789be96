//! Standard error of a run: one live line on a terminal, plain lines otherwise, with messages and logs between them.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Clears the line of the cursor.
const CLEAR: &str = "\r\x1b[2K";
/// A line wider than the terminal is cut off: two lines could not be cleared.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Where progress and messages go. Clones share the line.
#[derive(Clone)]
pub(crate) struct Screen {
    live: bool,
    line: Arc<Mutex<Option<String>>>,
}

impl Screen {
    /// Redraws a line if standard error is a terminal.
    pub fn new() -> Self {
        Self { live: io::stderr().is_terminal(), line: Arc::default() }
    }

    /// Whether progress is redrawn in place.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Shows progress: replaces the live line, or writes another one.
    pub fn progress(&self, text: &str) {
        if !self.live {
            return self.message(text);
        }
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{NO_WRAP}{text}{WRAP}");
        write(format!("{CLEAR}{text}").as_bytes());
        *line = Some(text);
    }

    /// Writes a line that stays.
    pub fn message(&self, text: &str) {
        self.above(format!("{text}\n").as_bytes());
    }

    /// Removes the live line.
    pub fn end_progress(&self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.take().is_some() {
            write(CLEAR.as_bytes());
        }
    }

    fn above(&self, bytes: &[u8]) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match &*line {
            Some(live) => {
                let mut all = CLEAR.as_bytes().to_vec();
                all.extend_from_slice(bytes);
                all.extend_from_slice(live.as_bytes());
                write(&all);
            }
            None => write(bytes),
        }
    }
}

/// Nobody can be told that standard error is closed.
fn write(bytes: &[u8]) {
    let mut stderr = io::stderr().lock();
    drop(stderr.write_all(bytes).and_then(|()| stderr.flush()));
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.above(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
