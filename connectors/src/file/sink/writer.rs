//! Encodes rows in memory and hands out the writing: one hidden part after another, sealed at each cut.

use std::sync::{Arc, Mutex};

use millstream_runtime::batch::{Data, Rows};
use millstream_runtime::ids::CutNumber;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::sink::{PrepareWork, SinkContext, SinkWork, SinkWriter};

use super::names::{Hidden, visible};
use super::part::Part;
use super::{Encoder, FileOptions, PendingFile};
use crate::error::lock;
use crate::file::durable::sync_folder;

/// Bytes of lines collected before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

pub(super) struct FileWriter<T> {
    options: Arc<FileOptions>,
    encoder: Encoder<T>,
    context: SinkContext,
    buffer: Vec<u8>,
    /// Parts of the open cut, in order; only the last one grows. In a mutex because handed-out work writes to it; that
    /// work and this writer never run at the same time.
    parts: Vec<(String, Arc<Mutex<Part>>)>,
    /// Bytes of the last part, those in the buffer not included.
    part_bytes: u64,
    next_sequence: u64,
}

impl<T: Data> FileWriter<T> {
    pub fn new(options: Arc<FileOptions>, encoder: Encoder<T>, context: SinkContext) -> Self {
        Self { options, encoder, context, buffer: Vec::new(), parts: Vec::new(), part_bytes: 0, next_sequence: 0 }
    }

    fn encode(&mut self, rows: &Rows<T>) -> Result<(), PortError> {
        let buffer = &mut self.buffer;
        match self.encoder {
            Encoder::Json(encode) => {
                for row in &rows.values {
                    encode(row, buffer).map_err(|error| {
                        PortError::fix_input(format!(
                            "a row for {} cannot be written as JSON ({error}); change its type or give the sink an \
                             encoder",
                            self.options.folder.display()
                        ))
                    })?;
                    buffer.push(b'\n');
                }
            }
            Encoder::Line(encode) => {
                for row in &rows.values {
                    let before = buffer.len();
                    encode(row, buffer);
                    if buffer.len() > before {
                        buffer.push(b'\n');
                    }
                }
            }
        }
        Ok(())
    }

    /// Work that appends the collected bytes to the open part, or to a new one when that is full.
    fn flush(&mut self) -> Option<SinkWork> {
        if self.buffer.is_empty() {
            return None;
        }
        let may_roll = self.options.single_file.is_none();
        if self.parts.is_empty() || (may_roll && self.part_bytes >= self.options.roll_bytes) {
            let hidden = Hidden::new(&self.context, self.next_sequence).name();
            self.next_sequence += 1;
            self.part_bytes = 0;
            let part = Part::new(self.options.folder.join(&hidden));
            self.parts.push((hidden, Arc::new(Mutex::new(part))));
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.part_bytes += bytes.len() as u64;
        let part = Arc::clone(&self.parts.last().expect("opened above").1);
        Some(Box::new(move || lock(&part).append(&bytes).map(|_| ())))
    }
}

impl<T: Data> SinkWriter<T, PendingFile> for FileWriter<T> {
    fn write(&mut self, rows: Rows<T>) -> Result<Option<SinkWork>, PortError> {
        self.encode(&rows)?;
        let room = WRITE_BYTES.min(usize::try_from(self.options.roll_bytes).unwrap_or(WRITE_BYTES));
        Ok(if self.buffer.len() >= room { self.flush() } else { None })
    }

    fn prepare(&mut self, cut: CutNumber) -> Result<PrepareWork<PendingFile>, PortError> {
        let last = self.flush();
        let parts = std::mem::take(&mut self.parts);
        self.part_bytes = 0;
        let options = Arc::clone(&self.options);
        let context = self.context;
        Ok(Box::new(move || {
            if let Some(write) = last {
                write()?;
            }
            let mut pending = Vec::with_capacity(parts.len());
            for (roll, (hidden, part)) in parts.into_iter().enumerate() {
                let part = std::mem::replace(&mut *lock(&part), Part::new(options.folder.join(&hidden)));
                let (visible, replaces) = match &options.single_file {
                    Some(name) => (name.clone(), true),
                    None => (visible(&context, cut, roll, &options.extension), false),
                };
                pending.push(PendingFile { hidden, visible, size_bytes: part.seal()?, replaces });
            }
            if !pending.is_empty() {
                sync_folder(&options.folder)?;
            }
            Ok(pending)
        }))
    }
}
