//! Options: from defaults, a file, the environment and flags to typed values that remember where they came from.
//!
//! | question | module |
//! |---|---|
//! | which keys exist, with type and default | [`keys`] |
//! | where values come from and who wins | [`layers`] |
//! | the result, and how a value is read from it | [`configuration`] |
//! | how durations, sizes, enums are written | [`value`], [`choice`] |
//! | what is said about a key that nobody knows | [`advice`] |
//! | what a node and a cluster file are told | [`node`] |
//! | which values are never shown | [`secret`] |
//! | the reference page | [`document`] |
//!
//! ```
//! use millstream_config::{Sources, keys, load};
//!
//! let flags = vec!["execution.checkpointing.interval=200ms".to_string()];
//! let loaded = load(&Sources { flags, ..Sources::default() })?;
//! assert_eq!(loaded.configuration.get(&keys::CHECKPOINT_INTERVAL).as_millis(), 200);
//! assert!(loaded.warnings.is_empty());
//! # Ok::<(), millstream_config::Error>(())
//! ```
#![deny(missing_docs)]

pub mod advice;
pub mod choice;
pub mod configuration;
pub mod document;
mod error;
pub mod keys;
pub mod layers;
pub mod node;
pub mod secret;
pub mod value;

pub use advice::Warning;
pub use configuration::{Configuration, Origin, Setting};
pub use error::Error;
pub use keys::Key;
pub use layers::{Loaded, Sources, load};
pub use node::{ClusterFile, ClusterNode, NodeSettings, load_cluster};
