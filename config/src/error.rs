//! What is wrong with a configuration. Every message names the key, the place and what would be accepted.

use std::path::PathBuf;

use crate::configuration::Origin;

/// A configuration that cannot be used. The user has to change the input; retrying does not help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key has a value of the wrong form.
    #[error("{key} = '{value}' ({origin}) is not valid: expected {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// Where it was given.
        origin: Origin,
        /// The accepted form.
        expected: &'static str,
    },
    /// A key appears twice in the file: once dotted, once in a table.
    #[error("{key} is set more than once in {}: keep one", file.display())]
    SetTwice {
        /// The key.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// A key holds something that is not a value or a list of values.
    #[error("{key} in {} is a list of tables: give single values, separated by ';'", file.display())]
    NotAValue {
        /// The key.
        key: String,
        /// The file.
        file: PathBuf,
    },
    /// The file is not there or cannot be read.
    #[error("the configuration file {} cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid TOML: {reason}", file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// Line and problem.
        reason: String,
    },
    /// A setting that others make necessary is not there.
    #[error("{key} is not set: {why}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Why it is needed.
        why: &'static str,
    },
    /// Settings that cannot hold together.
    #[error("{0}")]
    Contradiction(String),
    /// A cluster file without a node.
    #[error("{} describes no cluster: give each node a table [nodes.NAME]", file.display())]
    NoNodes {
        /// The file.
        file: PathBuf,
    },
    /// A flag without `=`.
    #[error("-D {flag} is not of the form key=value")]
    BadFlag {
        /// What followed `-D`.
        flag: String,
    },
}

impl Error {
    pub(crate) fn missing(key: &'static str, why: &'static str) -> Self {
        Self::Missing { key, why }
    }
}
