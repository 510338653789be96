//! The jobs that come with Millstream, by name. `millstream jobs` lists them, `millstream run NAME` runs one.

pub mod fraud_detection;

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::stream::Environment;

/// A job that a program offers.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is run by.
    pub name: Cow<'static, str>,
    /// What it does, in one line.
    pub about: &'static str,
    /// Its options, one line each, as help shows them.
    pub options: &'static str,
    /// Records it.
    pub build: fn(&Environment) -> Result<()>,
}

impl Job {
    /// A job named as its function, with hyphens for underscores and without the path before it.
    #[must_use]
    pub fn of_function(function: &str, build: fn(&Environment) -> Result<()>) -> Self {
        let name = function.rsplit("::").next().unwrap_or(function).trim().replace('_', "-");
        Self { name: Cow::Owned(name), about: "", options: "", build }
    }

    /// Says what the job does, in one line.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }
}

/// A list of jobs from their functions, each named as its function with hyphens: `jobs![spending_alerts]` gives
/// `spending-alerts`.
#[macro_export]
macro_rules! jobs {
    ($($build:path),* $(,)?) => {
        vec![$($crate::jobs::Job::of_function(stringify!($build), $build)),*]
    };
}

/// The built-in jobs, by name.
#[must_use]
pub fn jobs() -> Vec<Job> {
    vec![fraud_detection::FRAUD_DETECTION]
}

/// The job of this name among those of a program, hyphens written as underscores or not.
pub(crate) fn find<'a>(jobs: &'a [Job], name: &str) -> Result<&'a Job> {
    let wanted = name.replace('_', "-");
    jobs.iter().find(|job| job.name == wanted || job.name == name).ok_or_else(|| {
        let names: Vec<&str> = jobs.iter().map(|job| job.name.as_ref()).collect();
        Error::usage(format!("there is no job '{name}'; this program has: {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spending_alerts(_env: &Environment) -> Result<()> {
        Ok(())
    }

    #[test]
    fn jobs_are_named_as_their_functions() {
        let jobs = jobs![spending_alerts, fraud_detection::fraud_detection];
        assert_eq!(
            jobs.iter().map(|job| job.name.as_ref()).collect::<Vec<_>>(),
            ["spending-alerts", "fraud-detection"]
        );
        assert_eq!(super::jobs()[0].name, "fraud-detection");
    }
}
