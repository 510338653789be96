//! The merged options: text by key, each with its origin, read through typed keys. Handed to every component at its start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::keys::{self, Key};
use crate::secret::shown;
use crate::value::Value;

/// Where a value comes from. Later ones win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Set by the program that builds the job.
    Program,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// `-D key=value`.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("set by the program"),
            Self::File(path) => write!(f, "from the file {}", path.display()),
            Self::Environment(name) => write!(f, "from the environment variable {name}"),
            Self::Flag => f.write_str("from the flag -D"),
        }
    }
}

/// A value as written, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The text.
    pub value: String,
    /// Its origin.
    pub origin: Origin,
}

/// Options by key. Keys that are not set have the default of [`keys`].
///
/// Invariant: the value of every key that [`keys::find`] knows has been accepted by its type.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    settings: BTreeMap<String, Setting>,
}

/// Without the secrets.
impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown().map(|(key, value, origin)| (key, (value, origin)))).finish()
    }
}

impl Configuration {
    /// The typed value of a key, or its default.
    #[must_use]
    pub fn get<T: Value>(&self, key: &Key<T>) -> T {
        let text = self.settings.get(key.name).map_or(key.default, |setting| setting.value.as_str());
        T::parse(text).unwrap_or_else(|| panic!("{} = '{text}' was accepted when it was set", key.name))
    }

    /// Whether somebody set the key, and who.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// All keys that are set, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// As [`iter`](Self::iter), with values as they may be shown.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str, &Origin)> {
        self.iter().map(|(key, setting)| (key, shown(key, &setting.value), &setting.origin))
    }

    /// Sets a key, unless a later origin has already set it.
    ///
    /// # Errors
    /// When the key is known and the value is not of its form.
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), Error> {
        let value = value.trim();
        if let Some(known) = keys::find(key).filter(|known| !(known.accepts)(value)) {
            return Err(Error::BadValue {
                key: key.to_string(),
                value: shown(key, value).to_string(),
                origin,
                expected: known.form,
            });
        }
        if self.settings.get(key).is_none_or(|present| present.origin <= origin) {
            self.settings.insert(key.to_string(), Setting { value: value.to_string(), origin });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_sets_wins_over_what_the_program_sets() {
        let mut configuration = Configuration::default();
        configuration.set("rest.port", "9000", Origin::Flag).expect("a port");
        configuration.set("rest.port", "9001", Origin::Program).expect("a port");
        assert_eq!(configuration.get(&keys::REST_PORT), 9000);
        configuration.set("rest.port", "9002", Origin::Flag).expect("a port");
        assert_eq!(configuration.get(&keys::REST_PORT), 9002);
    }

    #[test]
    fn secrets_are_read_and_not_shown() {
        let mut configuration = Configuration::default();
        configuration.set("s3.secret-key", "hunter2", Origin::Flag).expect("text");
        assert_eq!(configuration.get(&keys::S3_SECRET_KEY).as_deref(), Some("hunter2"));
        assert_eq!(configuration.shown().next(), Some(("s3.secret-key", "******", &Origin::Flag)));
        assert!(!format!("{configuration:?}").contains("hunter2"));
    }

    #[test]
    fn a_value_of_the_wrong_form_names_key_value_origin_and_form() {
        let mut configuration = Configuration::default();
        let error = configuration.set("rest.port", "http", Origin::Flag).expect_err("not a number");
        let text = error.to_string();
        for part in ["rest.port", "'http'", "from the flag -D", "65535"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(configuration.get(&keys::REST_PORT), 8081);
    }
}
