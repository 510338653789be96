//! Where values come from and who wins: defaults, then file, then environment, then flags. Used by the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{FileFormat, Source, ValueKind};

use crate::advice::{self, Warning};
use crate::configuration::{Configuration, Origin};
use crate::error::Error;
use crate::keys;

/// What variables of the environment begin with.
pub const ENVIRONMENT_PREFIX: &str = "MILLSTREAM_";

/// The inputs of [`load`].
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file: keys dotted (`"rest.port" = 1`, `rest.port = 1`) or in tables.
    pub file: Option<PathBuf>,
    /// The variables of the environment; those with another prefix are ignored.
    pub environment: Vec<(String, String)>,
    /// What followed each `-D`, as `key=value`.
    pub flags: Vec<String>,
}

/// A usable configuration, and what its author should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The options.
    pub configuration: Configuration,
    /// Keys without effect, in the order of the sources.
    pub warnings: Vec<Warning>,
}

/// Reads and merges the sources.
///
/// # Errors
/// When the file cannot be read, or a value is not of the form of its key.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Unreadable { file: path.clone(), reason: error.to_string() })?;
        loaded.add(read_toml(&text, path)?)?;
    }
    loaded.add(read_environment(&sources.environment))?;
    loaded.add(read_flags(&sources.flags)?)?;
    Ok(loaded)
}

/// One layer: keys in the order in which they are reported.
type Layer = Vec<(String, String, Origin)>;

impl Loaded {
    fn add(&mut self, layer: Layer) -> Result<(), Error> {
        // Earlier names first, so that the new name wins within a layer.
        let (renamed, others): (Layer, Layer) = layer.into_iter().partition(|(key, ..)| new_name(key).is_some());
        for (key, value, origin) in renamed {
            if let Some(now) = new_name(&key) {
                self.configuration.set(now, &value, origin.clone())?;
                self.warnings.push(Warning::Renamed { key, origin, now });
            }
        }
        for (key, value, origin) in others {
            if keys::find(&key).is_none() {
                self.warnings.push(Warning::about(&key, &origin));
            }
            self.configuration.set(&key, &value, origin)?;
        }
        Ok(())
    }
}

fn new_name(key: &str) -> Option<&'static str> {
    keys::RENAMED.iter().find(|(earlier, _)| *earlier == key).map(|(_, now)| *now)
}

fn read_toml(text: &str, path: &Path) -> Result<Layer, Error> {
    let table = config::File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| Error::NotToml { file: path.to_path_buf(), reason: error.to_string() })?;
    let mut values = BTreeMap::new();
    for (key, value) in table {
        flatten(key, value, path, &mut values)?;
    }
    Ok(values.into_iter().map(|(key, value)| (key, value, Origin::File(path.to_path_buf()))).collect())
}

fn flatten(key: String, value: config::Value, path: &Path, out: &mut BTreeMap<String, String>) -> Result<(), Error> {
    let not_a_value = |key: &str| Error::NotAValue { key: key.to_string(), file: path.to_path_buf() };
    let text = match value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                flatten(format!("{key}.{name}"), value, path, out)?;
            }
            return Ok(());
        }
        ValueKind::Array(items) => {
            let items: Result<Vec<String>, _> = items.into_iter().map(config::Value::into_string).collect();
            items.map_err(|_| not_a_value(&key))?.join(";")
        }
        _ => value.into_string().map_err(|_| not_a_value(&key))?,
    };
    match out.insert(key.clone(), text) {
        Some(_) => Err(Error::SetTwice { key, file: path.to_path_buf() }),
        None => Ok(()),
    }
}

fn read_environment(variables: &[(String, String)]) -> Layer {
    let mut layer: Layer = variables
        .iter()
        .filter_map(|(name, value)| {
            let key = key_of_variable(name.strip_prefix(ENVIRONMENT_PREFIX)?);
            // An empty variable is how containers and shells say "not set".
            (!value.is_empty()).then(|| (key, value.clone(), Origin::Environment(name.clone())))
        })
        .collect();
    layer.sort();
    layer
}

/// The variable of a key: upper case, dots as `__`, hyphens as `_`, after [`ENVIRONMENT_PREFIX`].
#[must_use]
pub fn variable_of_key(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").replace('-', "_").to_uppercase())
}

fn key_of_variable(name: &str) -> String {
    let key = name.replace("__", ".").replace('_', "-").to_lowercase();
    // The upper case of a variable hides that of a key such as taskmanager.numberOfTaskSlots.
    advice::flink_spelling(&key).map_or(key, str::to_string)
}

fn read_flags(flags: &[String]) -> Result<Layer, Error> {
    flags
        .iter()
        .map(|flag| match flag.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_string(), value.to_string(), Origin::Flag))
            }
            _ => Err(Error::BadFlag { flag: flag.clone() }),
        })
        .collect()
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
