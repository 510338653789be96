//! Writes the sample's files beside their folder under a dotted name, and makes them visible at the end.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use super::GenerateError;

const BUFFER_BYTES: usize = 256 * 1024;

/// The files of a sample that is not visible yet.
pub(super) struct OpenFiles {
    output: PathBuf,
    hidden: PathBuf,
    files: Vec<BufWriter<File>>,
}

impl OpenFiles {
    /// Opens `count` files in a hidden folder beside `output`, in place of what an interrupted generation left there.
    pub(super) fn create(output: &Path, count: u32) -> Result<Self, GenerateError> {
        let output = std::path::absolute(output).map_err(GenerateError::at(output))?;
        let hidden = hidden_beside(&output)?;
        if hidden.exists() {
            fs::remove_dir_all(&hidden).map_err(GenerateError::at(&hidden))?;
        }
        fs::create_dir_all(&hidden).map_err(GenerateError::at(&hidden))?;
        let files = (0..count)
            .map(|number| {
                let path = hidden.join(file_name(number));
                let file = File::create(&path).map_err(GenerateError::at(&path))?;
                Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
            })
            .collect::<Result<_, GenerateError>>()?;
        Ok(Self { output, hidden, files })
    }

    /// Appends to one of the files.
    pub(super) fn write(&mut self, file: usize, line: &[u8]) -> Result<(), GenerateError> {
        self.files[file].write_all(line).map_err(GenerateError::at(&self.hidden))
    }

    /// Makes the files visible: the whole folder at once if `output` is absent or empty, else file by file in place of
    /// an earlier sample.
    pub(super) fn publish(mut self) -> Result<(), GenerateError> {
        for file in &mut self.files {
            file.flush().map_err(GenerateError::at(&self.hidden))?;
        }
        let count = self.files.len();
        // Only an empty folder can be removed; it then gives way to the hidden one.
        let _ = fs::remove_dir(&self.output);
        if !self.output.exists() {
            return fs::rename(&self.hidden, &self.output).map_err(GenerateError::at(&self.output));
        }
        for entry in fs::read_dir(&self.output).map_err(GenerateError::at(&self.output))? {
            let entry = entry.map_err(GenerateError::at(&self.output))?;
            if entry.file_name().to_str().is_some_and(is_sample_file) {
                fs::remove_file(entry.path()).map_err(GenerateError::at(&entry.path()))?;
            }
        }
        for number in (0..u32::MAX).take(count) {
            let visible = self.output.join(file_name(number));
            fs::rename(self.hidden.join(file_name(number)), &visible).map_err(GenerateError::at(&visible))?;
        }
        fs::remove_dir(&self.hidden).map_err(GenerateError::at(&self.hidden))
    }
}

/// Writes a file under a hidden name and renames it, so that it is visible only whole.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> Result<(), GenerateError> {
    let path = std::path::absolute(path).map_err(GenerateError::at(path))?;
    let hidden = hidden_beside(&path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(GenerateError::at(folder))?;
    }
    fs::write(&hidden, content).map_err(GenerateError::at(&hidden))?;
    fs::rename(&hidden, &path).map_err(GenerateError::at(&path))
}

fn hidden_beside(path: &Path) -> Result<PathBuf, GenerateError> {
    let name = path.file_name().ok_or_else(|| {
        GenerateError::at(path)(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path has no last name"))
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".generating");
    Ok(path.with_file_name(hidden))
}

fn file_name(number: u32) -> String {
    format!("transactions-{number:05}.jsonl")
}

fn is_sample_file(name: &str) -> bool {
    name.strip_prefix("transactions-")
        .and_then(|rest| rest.strip_suffix(".jsonl"))
        .is_some_and(|number| number.len() >= 5 && number.bytes().all(|byte| byte.is_ascii_digit()))
}
