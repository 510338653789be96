//! What is said about keys that have no effect: a typing error, or an option of Flink that Millstream does without.

use std::fmt;

use crate::configuration::Origin;
use crate::keys;

/// The keys of Flink, one a line; `<...>` stands for any one or more parts of a name.
const FLINK_KEYS: &str = include_str!("../keys/flink_keys.txt");

/// Something the user should know; the configuration is used nevertheless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Nobody knows this key.
    Unknown {
        /// The key.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// The most similar key, if one is similar.
        nearest: Option<&'static str>,
    },
    /// An option of Flink without a counterpart here.
    NotUsed {
        /// The key.
        key: String,
        /// Where it was given.
        origin: Origin,
    },
    /// The key has a new name; its value counts unless the new name is set too.
    Renamed {
        /// The key.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// The new name.
        now: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, origin, nearest: Some(nearest) } => {
                write!(f, "unknown key {key} ({origin}) has no effect; did you mean {nearest}?")
            }
            Self::Unknown { key, origin, nearest: None } => write!(f, "unknown key {key} ({origin}) has no effect"),
            Self::NotUsed { key, origin } => {
                write!(f, "{key} ({origin}) is known to Flink, not used here; it has no effect")
            }
            Self::Renamed { key, origin, now } => write!(f, "{key} ({origin}) is now called {now}"),
        }
    }
}

impl Warning {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Unknown { key, .. } | Self::NotUsed { key, .. } | Self::Renamed { key, .. } => key,
        }
    }

    /// What to say about a key that is not in [`keys::ALL`].
    pub(crate) fn about(key: &str, origin: &Origin) -> Self {
        let (key, origin) = (key.to_string(), origin.clone());
        if is_flink_key(&key) {
            return Self::NotUsed { key, origin };
        }
        let nearest = nearest(&key);
        Self::Unknown { key, origin, nearest }
    }
}

/// Whether Flink's reference lists the key.
#[must_use]
pub fn is_flink_key(key: &str) -> bool {
    let parts: Vec<&str> = key.split('.').collect();
    FLINK_KEYS.lines().any(|pattern| {
        let pattern: Vec<&str> = pattern.split('.').collect();
        matches(&pattern, &parts)
    })
}

/// Flink's own spelling of a key, if it is one, ignoring case: environment variables do not keep it.
pub(crate) fn flink_spelling(lower_case_key: &str) -> Option<&'static str> {
    FLINK_KEYS.lines().find(|key| key.eq_ignore_ascii_case(lower_case_key))
}

fn matches(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((first, pattern)), Some((part, parts))) if first.starts_with('<') => {
            !part.is_empty() && (matches(pattern, parts) || (pattern.is_empty() && !parts.is_empty()))
        }
        (Some((first, pattern)), Some((part, parts))) => first == part && matches(pattern, parts),
        _ => false,
    }
}

/// The key of ours that is closest, unless more than a third of it would have to change.
fn nearest(key: &str) -> Option<&'static str> {
    let key = key.to_lowercase();
    keys::ALL
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&key, known.name), known.name))
        .min()
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_gets_the_nearest_key() {
        assert_eq!(nearest("execution.checkpointing.intervall"), Some("execution.checkpointing.interval"));
        assert_eq!(nearest("paralelism.default"), Some("parallelism.default"));
        assert_eq!(nearest("rest-port"), Some("rest.port"));
        assert_eq!(nearest("something.entirely.different"), None);
    }

    #[test]
    fn names_with_placeholders_are_flink_keys() {
        assert!(is_flink_key("taskmanager.memory.process.size"));
        assert!(is_flink_key("metrics.reporter.prom.factory.class"));
        assert!(is_flink_key("metrics.reporter.prom.any.parameter"));
        assert!(!is_flink_key("metrics.reporter"));
        assert!(!is_flink_key("taskmanager.memory.process.sizes"));
    }

    #[test]
    fn warnings_read_as_advice() {
        let text = Warning::about("rest.prot", &Origin::Flag).to_string();
        assert_eq!(text, "unknown key rest.prot (from the flag -D) has no effect; did you mean rest.port?");
        let text = Warning::about("rest.bind-port", &Origin::Flag).to_string();
        assert_eq!(text, "rest.bind-port (from the flag -D) is known to Flink, not used here; it has no effect");
    }
}
