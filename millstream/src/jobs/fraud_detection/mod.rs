//! Fraud detection on card transactions: the main job. Its contract is `docs/fraud-detection.md`: the result depends on
//! input and rules only.
//!
//! - [`lines`]: what a line of the input or of the rules becomes, and which are late
//! - [`sort`]: transactions and rules on, dead letters aside
//! - [`judge`]: state and timer per user
//! - [`tally`]: counts, and the summary
//! - [`block_list`]: the table of blocked users

mod block_list;
mod judge;
mod lines;
mod sort;
mod tally;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::PathBuf;

use millstream_connectors::file::sink::FileSink;
use millstream_connectors::file::source::FileSource;
use millstream_connectors::rate_limit::RateLimited;
use millstream_connectors::table::TableSink;
use millstream_fraud::alert::Alert;
use millstream_fraud::dead_letter::DeadLetter;
use millstream_fraud::summary::Tally;
use millstream_runtime::chain::timestamps::Watermarks;
use millstream_runtime::time::MIN_TIMESTAMP;

use self::judge::Judge;
use self::lines::{Ingested, OUT_OF_ORDER, RuleLine, RuleLines, TransactionLines};
use self::sort::{DEAD_LETTERS, SortRules, SortTransactions, TALLY};
use self::tally::{CountAlerts, Summarise};
use super::Job;
use crate::error::{Error, Result};
use crate::stream::{DataStream, Environment, Parameters};

/// How often a watched folder or rules file is looked at, in milliseconds.
const WATCH_INTERVAL_MS: u64 = 500;

/// The job as the registry lists it.
pub const FRAUD_DETECTION: Job = Job {
    name: Cow::Borrowed("fraud-detection"),
    about: "Judges card transactions by four rules; writes alerts, dead letters, a block list and a summary",
    options: "\
  --input DIR       folder with *.jsonl and *.jsonl.gz, a transaction a line
  --output DIR      where alerts/, dead-letters/, blocklist/ and summary.json are written
  --rules FILE      rule sets, a JSON object a line; without it the built-in numbers
  --watch           read new files, growing files and added rules until the job is stopped
  --rate-limit N    read at most N lines a second, over all subtasks",
    build: fraud_detection,
};

/// What the job was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder of the transactions.
    pub input: PathBuf,
    /// Folder of everything written.
    pub output: PathBuf,
    /// The rules file, if there is one.
    pub rules: Option<PathBuf>,
    /// Never ends: files and rules are watched.
    pub watch: bool,
    /// Lines per second at most, over all subtasks.
    pub rate_limit: Option<u64>,
}

impl Options {
    /// Reads the options of the job.
    ///
    /// # Errors
    /// When one is missing, unknown or without a meaning.
    pub fn from_parameters(parameters: &Parameters) -> Result<Self> {
        parameters.allow_only(&["input", "output", "rules", "watch", "rate-limit"])?;
        let path = |key: &str| match parameters.required(key)? {
            "" => Err(Error::usage(format!("the job option --{key} is empty: name a folder"))),
            path => Ok(PathBuf::from(path)),
        };
        let (input, output) = (path("input")?, path("output")?);
        if input == output {
            return Err(Error::usage("--input and --output are the same folder: write somewhere else"));
        }
        let rate_limit = parameters.parsed("rate-limit")?;
        if rate_limit == Some(0) {
            return Err(Error::usage("--rate-limit 0 would read nothing: give at least 1, or leave it out"));
        }
        let rules = parameters.get("rules")?.map(PathBuf::from);
        Ok(Self { input, output, rules, watch: parameters.flag("watch")?, rate_limit })
    }
}

/// Records the job.
///
/// # Errors
/// When its options are wrong.
pub fn fraud_detection(env: &Environment) -> Result<()> {
    let options = Options::from_parameters(env.parameters())?;
    let sorted =
        transactions(env, &options).process(SortTransactions::new()).uid("sort-transactions").name("Sort transactions");
    let rules =
        rules(env, &options).process(SortRules::new()).uid("sort-rules").name("Sort rules").force_non_parallel();
    let alerts = sorted
        .key_by(|transaction| transaction.user_id)
        .connect(&rules.broadcast())
        .process(Judge::new(options.watch))
        .uid("judge")
        .name("Judge");
    write_alerts(&alerts, &options);
    let counted = alerts.process(CountAlerts::new()).uid("count-alerts").name("Count alerts");
    let tallies = sorted.side_output(&TALLY).union(&rules.side_output(&TALLY)).union(&counted);
    write_summary(&tallies, &options);
    sorted
        .side_output(&DEAD_LETTERS)
        .union(&rules.side_output(&DEAD_LETTERS))
        .sink_to("Dead letters", FileSink::lines(options.output.join("dead-letters"), DeadLetter::write_json))
        .uid("dead-letters");
    Ok(())
}

fn transactions(env: &Environment, options: &Options) -> DataStream<Ingested> {
    let mut source = FileSource::new(&options.input, TransactionLines);
    if options.watch {
        source = source.watch(WATCH_INTERVAL_MS);
    }
    let stream = match options.rate_limit {
        Some(rate) => env.from_source("Transactions", RateLimited::new(source, rate)),
        None => env.from_source("Transactions", source),
    };
    stream.uid("transactions").assign_watermarks(Watermarks::bounded_out_of_orderness(OUT_OF_ORDER), Ingested::time)
}

/// One subtask reads the rules: their order counts.
fn rules(env: &Environment, options: &Options) -> DataStream<RuleLine> {
    let stream = match &options.rules {
        Some(path) => {
            let source = FileSource::new(path, RuleLines);
            let source = if options.watch { source.watch(WATCH_INTERVAL_MS) } else { source };
            env.from_source("Rules", source).uid("rules").force_non_parallel()
        }
        None => env.from_collection("No rules", Vec::new()).uid("no-rules"),
    };
    // Nothing is judged before the file has been read whole.
    stream.assign_watermarks(Watermarks::AfterCatchUp, |_| MIN_TIMESTAMP)
}

fn write_alerts(alerts: &DataStream<Alert>, options: &Options) {
    alerts.sink_to("Alerts", FileSink::lines(options.output.join("alerts"), Alert::write_json)).uid("alerts");
    let table = TableSink::new(options.output.join("blocklist"), block_list::upsert, block_list::merge);
    alerts.key_by(|alert| alert.user_id).as_stream().sink_to("Block list", table).uid("blocklist");
}

fn write_summary(tallies: &DataStream<Tally>, options: &Options) {
    let encode: fn(&Tally, &mut Vec<u8>) = |tally, out| {
        tally.write_json(out);
        // The sink ends the line itself.
        out.pop();
    };
    tallies
        .global()
        .process(Summarise::new())
        .uid("summarise")
        .name("Summarise")
        .force_non_parallel()
        .sink_to("Summary", FileSink::lines(&options.output, encode).single_file("summary.json"))
        .uid("summary")
        .force_non_parallel();
}
