//! The options of a job: what stands behind `--` on the command line. Part of the job record, so a job sees the same
//! ones wherever and however often it is planned.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Key/value options of a job, from `--key value`, `--key=value` or `--flag`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    values: BTreeMap<String, Option<String>>,
}

impl Parameters {
    /// Reads command-line arguments.
    ///
    /// # Errors
    /// When an argument is no option, or an option is given twice.
    pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Self> {
        let mut values = BTreeMap::new();
        let mut rest = arguments.iter().map(AsRef::as_ref).peekable();
        while let Some(argument) = rest.next() {
            let Some(option) = argument.strip_prefix("--").filter(|option| !option.is_empty()) else {
                return Err(Error::usage(format!("'{argument}' is not a job option: write `--name value`")));
            };
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (option, rest.next_if(|next| !next.starts_with("--"))),
            };
            if values.insert(key.to_string(), value.map(str::to_string)).is_some() {
                return Err(Error::usage(format!("the job option --{key} is given twice: keep one")));
            }
        }
        Ok(Self { values })
    }

    /// Sets an option, for programs and tests.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.values.insert(key.to_string(), Some(value.into()));
        self
    }

    /// Sets a flag, for programs and tests.
    #[must_use]
    pub fn with_flag(mut self, key: &str) -> Self {
        self.values.insert(key.to_string(), None);
        self
    }

    /// The value of an option, if it is given.
    ///
    /// # Errors
    /// When it is given without a value.
    pub fn get(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(Error::usage(format!("the job option --{key} needs a value: write `--{key} VALUE`"))),
        }
    }

    /// The value of an option that must be given.
    ///
    /// # Errors
    /// When it is missing or has no value.
    pub fn required(&self, key: &str) -> Result<&str> {
        self.get(key)?
            .ok_or_else(|| Error::usage(format!("the job needs the option --{key}: write `-- --{key} VALUE`")))
    }

    /// The value of an option as a number or another type that can be read from text.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn parsed<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        let Some(text) = self.get(key)? else { return Ok(None) };
        let wrong = |error| Error::usage(format!("the job option --{key} cannot be '{text}': {error}"));
        text.parse().map(Some).map_err(wrong)
    }

    /// Whether a flag is given.
    ///
    /// # Errors
    /// When it is given with a value other than `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<bool> {
        match self.values.get(key).map(Option::as_deref) {
            None | Some(Some("false")) => Ok(false),
            Some(None | Some("true")) => Ok(true),
            Some(Some(value)) => {
                Err(Error::usage(format!("the job option --{key} is a flag: write `--{key}` without '{value}'")))
            }
        }
    }

    /// Refuses options that the job does not know: a misspelt one would silently have no effect.
    ///
    /// # Errors
    /// Names the first unknown option and the known ones.
    pub fn allow_only(&self, known: &[&str]) -> Result<()> {
        let unknown = self.values.keys().find(|key| !known.contains(&key.as_str()));
        unknown.map_or(Ok(()), |key| {
            let known: Vec<_> = known.iter().map(|key| format!("--{key}")).collect();
            Err(Error::usage(format!("unknown job option --{key}; the job knows {}", known.join(", "))))
        })
    }

    /// All options in the order of their names; a flag has no value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn values_flags_and_equal_signs_are_read() {
        let parameters = Parameters::parse(&["--input", "a b", "--watch", "--limit=3", "--empty="]).unwrap();
        assert_eq!(parameters.required("input").unwrap(), "a b");
        assert!(parameters.flag("watch").unwrap() && !parameters.flag("quiet").unwrap());
        assert_eq!(parameters.parsed::<u64>("limit").unwrap(), Some(3));
        assert_eq!(parameters.get("empty").unwrap(), Some(""));
        assert_eq!(parameters.get("rules").unwrap(), None);
        parameters.allow_only(&["input", "watch", "limit", "empty"]).unwrap();
    }

    #[test]
    fn mistakes_say_what_to_write() {
        let message = |result: Result<()>| result.unwrap_err().to_string();
        assert!(message(Parameters::parse(&["input"]).map(drop)).contains("--name value"));
        assert!(message(Parameters::parse(&["--a", "1", "--a", "2"]).map(drop)).contains("twice"));
        let parameters = Parameters::parse(&["--watch", "maybe", "--input", "--limit", "many"]).unwrap();
        assert!(message(parameters.flag("watch").map(drop)).contains("flag"));
        assert!(message(parameters.get("input").map(drop)).contains("--input VALUE"));
        assert!(message(parameters.required("output").map(drop)).contains("--output"));
        assert!(message(parameters.parsed::<u64>("limit").map(drop)).contains("many"));
        assert!(message(parameters.allow_only(&["watch", "input"])).contains("--limit"));
    }
}
