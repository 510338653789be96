//! The sample of the main job: made when the job is run or submitted without an input of its own.

use std::path::Path;

use millstream_fraud::generate::{self, Options};

use super::screen::Screen;
use super::text::grouped;
use crate::error::{Error, Result};
use crate::jobs::Job;
use crate::jobs::fraud_detection::FRAUD_DETECTION;
use crate::stream::Parameters;

/// Where the sample lies, relative to the working directory.
const INPUT: &str = "data/transactions";
const RULES: &str = "data/rules.jsonl";

/// Options of the main job that name places.
const PLACES: [&str; 3] = ["input", "rules", "output"];

/// Fills in what the main job needs and was not given. Other jobs keep what they have.
pub(super) fn defaults(job: &Job, mut parameters: Parameters, screen: &Screen) -> Result<Parameters> {
    if job.name != FRAUD_DETECTION.name {
        return Ok(parameters);
    }
    if parameters.get("input")?.is_none() {
        if !is_complete() {
            make(screen)?;
        }
        parameters = parameters.with("input", INPUT);
        if parameters.get("rules")?.is_none() && Path::new(RULES).is_file() {
            parameters = parameters.with("rules", RULES);
        }
    }
    if parameters.get("output")?.is_none() {
        parameters = parameters.with("output", format!("out/{}", job.name));
    }
    Ok(parameters)
}

/// The same for a cluster: what names a place of the main job is absolute, since nodes have working directories of their
/// own. Other jobs keep what they have: only they know which of their options are places.
pub(crate) fn absolute_defaults(job: &Job, parameters: Parameters, screen: &Screen) -> Result<Parameters> {
    let mut parameters = defaults(job, parameters, screen)?;
    if job.name == FRAUD_DETECTION.name {
        for key in PLACES {
            if let Some(place) = parameters.get(key)?.map(absolute).transpose()? {
                parameters = parameters.with(key, place);
            }
        }
    }
    Ok(parameters)
}

/// A path from the root of the file system.
pub(crate) fn absolute(path: &str) -> Result<String> {
    let absolute = std::path::absolute(path).map_err(|error| Error::usage(format!("{path} is no path: {error}")))?;
    Ok(absolute.to_string_lossy().into_owned())
}

/// Whether the whole sample is there, or input of the user's that must not be touched.
fn is_complete() -> bool {
    let Ok(entries) = std::fs::read_dir(INPUT) else { return false };
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let of_sample = names.iter().filter(|name| name.starts_with("transactions-")).count();
    // An interrupted generation leaves some of its files; none at all beside others is somebody's own input.
    let files = Options::default().files as usize;
    of_sample >= files || (of_sample == 0 && names.iter().any(|name| name.contains(".jsonl") && !name.starts_with('.')))
}

fn make(screen: &Screen) -> Result<()> {
    let options = Options { rules: Some(RULES.into()), ..Options::default() };
    screen.message(&format!("making a sample of {} transactions in {INPUT}", grouped(options.events)));
    let mut next = 0;
    let made = generate::generate(&options, Path::new(INPUT), &mut |lines| {
        if lines >= next {
            next = lines + options.events / if screen.is_live() { 100 } else { 4 };
            screen.progress(&format!("{} of {} transactions written", grouped(lines), grouped(options.events)));
        }
    })
    .map_err(|error| Error::usage(error.to_string()))?;
    screen.end_progress();
    screen.message(&format!(
        "sample: {} lines, of them {} malformed and {} late, {} planted cases of each rule; rules in {RULES}",
        grouped(made.lines),
        made.malformed,
        made.late,
        made.cases_per_rule
    ));
    Ok(())
}
