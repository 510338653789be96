//! The sample: seeded transactions with planted cases of every rule, malformed and late lines. The same arguments give
//! the same bytes on every platform. Used by the job's first run and by `millstream generate transactions`.

mod cities;
mod files;
mod malformed;
mod plan;
mod random;

use std::{
    io,
    path::{Path, PathBuf},
};

use millstream_runtime::time::Timestamp;

use self::{
    cities::{CITIES, City},
    files::OpenFiles,
    plan::{Event, Plan, Slot},
    random::Random,
};
use crate::{
    json_text::{push_amount, push_number, push_time},
    rules::RuleSet,
};

/// Event time of the first transaction, `2026-01-01T00:00:00.000Z`.
pub const SAMPLE_START: Timestamp = 1_767_225_600_000;

/// How far the event times of a file are out of order at most, in milliseconds.
pub const OUT_OF_ORDER_MS: i64 = 3_000;

/// The lateness of the contract: a line at or below the greatest earlier time less this is late.
const LATE_MS: i64 = 5_001;

/// Lines between two calls of the progress callback.
const PROGRESS_LINES: u64 = 16_384;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lines in all files together, malformed and late ones included.
    pub events: u64,
    /// Number of files, at least 1.
    pub files: u32,
    /// Everything random follows from it.
    pub seed: u64,
    /// Where to write the rules file that blocks the planted users (its folder is made); without it, none is written
    /// and nobody is blocked.
    pub rules: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: 1_000_000, files: 8, seed: 1, rules: None }
    }
}

/// What was generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// Lines in all files.
    pub lines: u64,
    /// Of these, no transactions.
    pub malformed: u64,
    /// Of these, late.
    pub late: u64,
    /// Cases planted of each rule, for as many users.
    pub cases_per_rule: u64,
    /// Size of all files.
    pub bytes: u64,
}

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// No lines or no files were asked for.
    #[error("at least one event and one file are needed")]
    Nothing,
    /// A path cannot be written.
    #[error("cannot write {path}: {source}; free the disk or name another folder")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl GenerateError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Writes the sample into the folder `output` as `transactions-00000.jsonl` and so on, and calls `progress` with the
/// number of lines written so far.
///
/// Earlier files of this name in the folder are replaced, others stay. Everything is first written under names that
/// start with a dot, so an interrupted generation is never taken for a sample.
///
/// # Errors
/// When the options ask for nothing or the disk cannot be written; then no visible file was added.
pub fn generate(options: &Options, output: &Path, progress: &mut dyn FnMut(u64)) -> Result<Generated, GenerateError> {
    if options.events == 0 || options.files == 0 {
        return Err(GenerateError::Nothing);
    }
    let plan = Plan::new(options.events, options.seed);
    let mut files = OpenFiles::create(output, options.files)?;
    let mut report = Generated { cases_per_rule: plan.cases, ..Generated::default() };
    let mut writer = Writer::new(options.files, options.seed);
    let mut events = plan.on_time();
    for slot in plan.slots() {
        writer.line.clear();
        let file = match slot {
            Slot::Malformed => {
                report.malformed += 1;
                writer.malformed(report.malformed)
            }
            Slot::Late => {
                report.late += 1;
                writer.late(&plan)
            }
            Slot::OnTime => match events.next() {
                Some(event) => writer.on_time(&event),
                None => break,
            },
        };
        writer.line.push(b'\n');
        files.write(file, &writer.line)?;
        report.lines += 1;
        report.bytes += writer.line.len() as u64;
        if report.lines.is_multiple_of(PROGRESS_LINES) {
            progress(report.lines);
        }
    }
    // The rules come first: a visible sample is complete.
    if let Some(path) = &options.rules {
        files::write_whole(path, &rules_text(&plan))?;
    }
    files.publish()?;
    progress(report.lines);
    Ok(report)
}

/// Two rule sets: the defaults with the first half of the blocked users, and from the middle of the sample with all.
fn rules_text(plan: &Plan) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, all) = (plan.blocked_users(false), plan.blocked_users(true));
    for (from, blocked_users) in [(SAMPLE_START - 3_600_000, first), (plan.middle(), all)] {
        RuleSet { from, blocked_users, ..RuleSet::default() }.write_json(&mut out);
        out.push(b'\n');
    }
    out
}

/// Writes lines, and knows what lateness depends on: the greatest time of each file so far.
struct Writer {
    random: Random,
    line: Vec<u8>,
    next_id: u64,
    reached: Vec<Option<Timestamp>>,
    last_file: usize,
}

impl Writer {
    fn new(files: u32, seed: u64) -> Self {
        Self {
            random: Random::new(seed, "lines"),
            line: Vec::with_capacity(512),
            next_id: 1,
            reached: vec![None; files as usize],
            last_file: 0,
        }
    }

    fn any_file(&mut self) -> usize {
        usize::try_from(self.random.below(self.reached.len() as u64)).expect("less than the number of files")
    }

    fn on_time(&mut self, event: &Event) -> usize {
        let file = self.any_file();
        self.transaction(event.user_id, event.time, event.amount_cents, event.city);
        self.reached[file] = self.reached[file].max(Some(event.time));
        self.last_file = file;
        file
    }

    fn late(&mut self, plan: &Plan) -> usize {
        // The file of the last transaction has a greatest time: the first slot is always one on time.
        let file = self.last_file;
        let reached = self.reached[file].unwrap_or(SAMPLE_START);
        let time = reached - LATE_MS - self.random.below_i64(120_000);
        let event = plan.background(&mut self.random, time);
        self.transaction(event.user_id, time, event.amount_cents, event.city);
        file
    }

    fn malformed(&mut self, turn: u64) -> usize {
        let file = self.any_file();
        let time = SAMPLE_START + self.random.below_i64(86_400_000);
        let city = self.random.pick(CITIES);
        self.transaction(turn, time, 1_234, city);
        malformed::break_line(&mut self.line, turn, &mut self.random);
        file
    }

    fn transaction(&mut self, user_id: u64, time: Timestamp, amount_cents: u64, city: &City) {
        let merchant = self.random.below(2_000);
        // Terminals of a city lie within 333 m of its centre north and east: never more than a kilometre apart.
        let north = self.random.below_i64(601) - 300;
        let east = self.random.below_i64(601) - 300;
        let line = &mut self.line;
        line.extend_from_slice(b"{\"transaction_id\":");
        push_number(line, u128::from(self.next_id));
        line.extend_from_slice(b",\"user_id\":");
        push_number(line, u128::from(user_id));
        line.extend_from_slice(b",\"time\":\"");
        push_time(line, time);
        line.extend_from_slice(b"\",\"amount\":\"");
        push_amount(line, u128::from(amount_cents));
        line.extend_from_slice(b"\",\"merchant\":\"m");
        push_number(line, u128::from(merchant));
        line.extend_from_slice(b"\",\"city\":\"");
        line.extend_from_slice(city.name.as_bytes());
        line.extend_from_slice(b"\",\"latitude\":");
        push_degrees(line, city.latitude * 10 + north);
        line.extend_from_slice(b",\"longitude\":");
        push_degrees(line, city.longitude * 10 + east);
        line.push(b'}');
        self.next_id += 1;
    }
}

/// Writes hundred-thousandths of a degree. Integers only: floating point would not be the same everywhere.
fn push_degrees(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    let value = value.unsigned_abs();
    push_number(out, u128::from(value / 100_000));
    out.push(b'.');
    let mut place = 10_000;
    while place > 0 {
        out.push(b'0' + u8::try_from(value / place % 10).expect("a remainder of ten is one digit"));
        place /= 10;
    }
}

#[cfg(test)]
mod tests;
