//! The jobs that come with Millstream, by name. `millstream jobs` lists them, `millstream run NAME` runs one.

use crate::error::Result;
use crate::stream::Environment;

/// A job that a program offers.
#[derive(Clone, Copy)]
pub struct Job {
    /// What it is run by.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Its options, one line each, as help shows them.
    pub options: &'static str,
    /// Records it.
    pub build: fn(&Environment) -> Result<()>,
}

impl Job {
    /// A job without a description.
    #[must_use]
    pub const fn new(name: &'static str, build: fn(&Environment) -> Result<()>) -> Self {
        Self { name, about: "", options: "", build }
    }
}

/// The built-in jobs, by name.
#[must_use]
pub fn jobs() -> Vec<Job> {
    vec![]
}
