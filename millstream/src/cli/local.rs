//! Commands that look at this program and at files: `jobs`, `generate`, `savepoint inspect`, `table`.

use std::path::{Path, PathBuf};

use millstream_connectors::table::Table;
use millstream_fraud::generate;
use millstream_runtime::ports::PortError;
use millstream_state::blob::{Location, Stores};
use millstream_state::savepoint::inspect::{SavepointSummary, VertexSummary, inspect};
use serde_json::{Value, json};

use super::{Failure, print};
use crate::error::Error;
use crate::jobs::Job;
use crate::run::screen::Screen;
use crate::run::text::{grouped, size, watermark};

pub(super) fn jobs(jobs: &[Job], as_json: bool) -> Result<(), Failure> {
    if as_json {
        let jobs: Vec<Value> =
            jobs.iter().map(|job| json!({ "name": job.name, "about": job.about, "options": job.options })).collect();
        return print(&format!("{}\n", json!({ "jobs": jobs })));
    }
    let mut text = String::new();
    for job in jobs {
        let about = if job.about.is_empty() { String::new() } else { format!("  {}", job.about) };
        text.push_str(&format!("{}{about}\n", job.name));
        if !job.options.is_empty() {
            text.push_str(&format!("{}\n", job.options));
        }
    }
    print(&text)
}

/// What `generate transactions` is asked for.
pub(super) struct Transactions {
    pub output: PathBuf,
    pub options: generate::Options,
    pub json: bool,
}

pub(super) fn generate(transactions: &Transactions) -> Result<(), Failure> {
    let Transactions { output, options, json: as_json } = transactions;
    let screen = Screen::new();
    let mut next = 0;
    let made = generate::generate(options, output, &mut |lines| {
        if lines >= next {
            next = lines + (options.events / if screen.is_live() { 100 } else { 4 }).max(1);
            screen.progress(&format!("{} of {} transactions written", grouped(lines), grouped(options.events)));
        }
    });
    screen.end_progress();
    let made = made.map_err(|error| match error {
        generate::GenerateError::Nothing => Error::usage(error.to_string()),
        generate::GenerateError::Io { .. } => PortError::fix_input(error.to_string()).into(),
    })?;
    if *as_json {
        let generate::Generated { lines, malformed, late, cases_per_rule, bytes } = made;
        let made = json!({ "output": output, "files": options.files, "lines": lines, "malformed": malformed, "late": late, "cases_per_rule": cases_per_rule, "bytes": bytes });
        return print(&format!("{made}\n"));
    }
    print(&format!(
        "{} lines, {} in {} files in {}: {} malformed, {} late, {} planted cases of each rule\n",
        grouped(made.lines),
        size(made.bytes),
        options.files,
        output.display(),
        made.malformed,
        made.late,
        made.cases_per_rule
    ))
}

pub(super) fn inspect_savepoint(stores: &Stores, path: &str, as_json: bool) -> Result<(), Failure> {
    let path = Location::parse(path).map_err(Error::from)?;
    let summary = inspect(stores, &path).map_err(Error::from)?;
    if as_json {
        let text = serde_json::to_string(&summary).map_err(|error| PortError::give_up(error.to_string()));
        return print(&format!("{}\n", text.map_err(Error::from)?));
    }
    print(&savepoint_text(&summary))
}

fn savepoint_text(summary: &SavepointSummary) -> String {
    let mut text = format!(
        "{}\n  {} {} of {} ({}), triggered {}, {}\n",
        summary.path,
        summary.purpose,
        summary.checkpoint,
        summary.job_name,
        summary.job,
        watermark(summary.triggered_ms),
        size(summary.size_bytes)
    );
    for vertex in &summary.vertices {
        vertex_text(&mut text, vertex);
    }
    text
}

fn vertex_text(text: &mut String, vertex: &VertexSummary) {
    let at = vertex.watermark.map_or_else(|| "-".to_string(), watermark);
    let mut put = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    put(format!(
        "\n  {}\n    parallelism {} of at most {}, {} finished, watermark {at}, {}",
        vertex.name,
        vertex.parallelism,
        vertex.max_parallelism,
        vertex.finished_subtasks,
        size(vertex.size_bytes)
    ));
    for operator in &vertex.operators {
        put(format!("    {}", operator.uid));
        for state in &operator.states {
            let entries = grouped(state.entries);
            let what = format!("{} version {}", state.kind, state.version);
            put(format!("      {} ({what}): {entries} entries, {}", state.name, size(state.bytes)));
        }
    }
}

pub(super) fn table(path: &Path, as_json: bool) -> Result<(), Failure> {
    let mut table = Table::open_read(path).map_err(Error::from)?;
    let mut text = String::new();
    let mut has_header = false;
    table
        .iterate(&mut |_, value| {
            let value = std::str::from_utf8(value)
                .map_err(|_| PortError::fix_input(format!("{} holds rows that are no text", path.display())))?;
            if as_json {
                text.push_str(value);
            } else {
                text.push_str(&row(value, &mut has_header));
            }
            text.push('\n');
            Ok(())
        })
        .map_err(Error::from)?;
    print(&text)
}

/// The fields of a row in its own order, after a line with their names before the first.
fn row(value: &str, has_header: &mut bool) -> String {
    let fields = fields(value);
    if fields.is_empty() {
        return value.to_string();
    }
    let line = |part: fn(&(String, Value)) -> String| fields.iter().map(part).collect::<Vec<_>>().join("\t");
    let row = line(|(_, value)| value.as_str().map_or_else(|| value.to_string(), str::to_string));
    if std::mem::replace(has_header, true) { row } else { format!("{}\n{row}", line(|(name, _)| name.to_string())) }
}

/// The fields of a JSON object in the order in which they are written.
fn fields(object: &str) -> Vec<(String, Value)> {
    struct Fields(Vec<(String, Value)>);

    impl<'de> serde::Deserialize<'de> for Fields {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct InOrder;

            impl<'de> serde::de::Visitor<'de> for InOrder {
                type Value = Fields;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                    let mut fields = Vec::new();
                    while let Some(field) = map.next_entry()? {
                        fields.push(field);
                    }
                    Ok(Fields(fields))
                }
            }

            deserializer.deserialize_map(InOrder)
        }
    }

    serde_json::from_str::<Fields>(object).map_or_else(|_| Vec::new(), |fields| fields.0)
}
