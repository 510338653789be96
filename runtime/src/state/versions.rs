//! The version of a state's type, and what reads it from older ones: the same for keyed state and for state of operators.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::ports::PortError;

/// The present version, and for each older one that can be read a step `F` from it to the present.
pub(super) struct Versions<F: ?Sized> {
    present: u32,
    steps: BTreeMap<u32, Arc<F>>,
}

impl<F: ?Sized> Clone for Versions<F> {
    fn clone(&self) -> Self {
        Self { present: self.present, steps: self.steps.clone() }
    }
}

impl<F: ?Sized> fmt::Debug for Versions<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} from {:?}", self.present, self.steps.keys())
    }
}

impl<F: ?Sized> Versions<F> {
    /// No older one can be read.
    pub fn only(present: u32) -> Self {
        Self { present, steps: BTreeMap::new() }
    }

    pub fn present(&self) -> u32 {
        self.present
    }

    /// Sets the present version of a state, which must be greater than all that it is migrated from.
    pub fn set(&mut self, state: &str, version: u32) {
        self.present = version;
        self.check(state);
    }

    /// Adds a step from an older version of a state, which must be the only one from there.
    pub fn add(&mut self, state: &str, from: u32, step: Arc<F>) {
        assert!(self.steps.insert(from, step).is_none(), "state '{state}' has two migrations from its version {from}");
        self.check(state);
    }

    fn check(&self, state: &str) {
        let (version, newest) = (self.present, self.steps.last_key_value().map(|(from, _)| *from));
        assert!(
            newest.is_none_or(|from| from < version),
            "state '{state}' is declared in version {version} and cannot migrate from version {newest:?}: call `with_version` with a greater one before `migrate_from`"
        );
    }

    /// The step by which a state is read as it is stored; none where it is stored in the present version.
    ///
    /// # Errors
    /// `FixInput` for a version that there is no migration from, and for one newer than the present: reading it would be
    /// guesswork, and beginning anew would lose what is there.
    pub fn step_from(&self, state: &str, stored: u32) -> Result<Option<&Arc<F>>, PortError> {
        let version = self.present;
        if stored == version {
            return Ok(None);
        }
        if let Some(step) = self.steps.get(&stored) {
            return Ok(Some(step));
        }
        let what = if stored > version {
            format!("declares version {version}: restore it with a program of that version")
        } else {
            format!(
                "declares version {version} without a migration: add `migrate_from({stored}, ..)` to its declaration"
            )
        };
        Err(PortError::fix_input(format!(
            "state '{state}' is stored in version {stored}, and the program {what}, or declare it under another name to begin anew"
        )))
    }
}
