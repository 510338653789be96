//! Answers for people: tables with as many spaces as they need, times in UTC, sizes and durations in words.

use std::fmt::Write;

use millstream_actors::view::checkpoint::{CheckpointStatisticsView, CheckpointView};
use millstream_actors::view::cluster::TaskManagerView;
use millstream_actors::view::job::{JobDetails, JobOverview, VertexView};

/// The jobs of a cluster, running ones first, then by start.
#[must_use]
pub fn jobs(jobs: &[JobOverview]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_string();
    }
    let mut sorted: Vec<&JobOverview> = jobs.iter().collect();
    sorted.sort_by_key(|job| (job.state.is_terminal(), job.start_time, job.jid));
    let mut rows = vec![["JOB ID", "NAME", "STATE", "STARTED", "DURATION", "TASKS"].map(str::to_string).to_vec()];
    rows.extend(sorted.into_iter().map(|job| {
        vec![
            job.jid.to_string(),
            job.name.clone(),
            job.state.name().to_string(),
            time(job.start_time),
            duration(job.duration),
            format!("{}/{}", job.tasks.running, job.tasks.total),
        ]
    }));
    aligned(&rows, &[4, 5])
}

/// The task managers of a cluster, by name.
#[must_use]
pub fn nodes(nodes: &[TaskManagerView]) -> String {
    if nodes.is_empty() {
        return "no nodes that run jobs\n".to_string();
    }
    let mut sorted: Vec<&TaskManagerView> = nodes.iter().collect();
    sorted.sort_by(|one, other| one.id.cmp(&other.id));
    let mut rows = vec![["NODE", "SLOTS", "FREE", "SUBTASKS", "PROCESS"].map(str::to_string).to_vec()];
    rows.extend(sorted.into_iter().map(|node| {
        vec![
            node.id.clone(),
            node.slots_number.to_string(),
            node.free_slots.to_string(),
            node.assigned_tasks.to_string(),
            node.path.clone(),
        ]
    }));
    aligned(&rows, &[1, 2, 3])
}

/// A job with its vertices and checkpoints.
#[must_use]
pub fn job(job: &JobDetails, checkpoints: &CheckpointStatisticsView) -> String {
    let mut facts = vec![
        ("Job", job.jid.to_string()),
        ("Name", job.name.clone()),
        ("State", job.state.name().to_string()),
        ("Started", time(job.start_time)),
    ];
    if job.end_time >= 0 {
        facts.push(("Ended", time(job.end_time)));
    }
    facts.push(("Duration", duration(job.duration)));
    facts.extend(checkpoint_facts(checkpoints));
    let facts: Vec<Vec<String>> = facts.into_iter().map(|(name, value)| vec![name.to_string(), value]).collect();
    let mut rows = vec![
        ["VERTEX", "STATE", "PARALLELISM", "RECORDS IN", "RECORDS OUT", "BUSY", "IDLE", "BACKPRESSURED", "ID"]
            .map(str::to_string)
            .to_vec(),
    ];
    rows.extend(job.vertices.iter().map(vertex));
    format!("{}\n{}", aligned(&facts, &[]), aligned(&rows, &[2, 3, 4, 5, 6, 7]))
}

fn vertex(vertex: &VertexView) -> Vec<String> {
    let metrics = &vertex.metrics;
    let (idle, back) = (metrics.accumulated_idle_time as f64, metrics.accumulated_backpressured_time as f64);
    let all = metrics.accumulated_busy_time + idle + back;
    let percent = |part: f64| if all > 0.0 { format!("{:.0} %", part / all * 100.0) } else { "-".to_string() };
    vec![
        vertex.name.clone(),
        format!("{:?}", vertex.status).to_uppercase(),
        vertex.parallelism.to_string(),
        count(metrics.read_records),
        count(metrics.write_records),
        percent(metrics.accumulated_busy_time),
        percent(idle),
        percent(back),
        vertex.id.to_string(),
    ]
}

fn checkpoint_facts(statistics: &CheckpointStatisticsView) -> Vec<(&'static str, String)> {
    let counts = &statistics.counts;
    let in_words =
        format!("{} completed, {} failed, {} in progress", counts.completed, counts.failed, counts.in_progress);
    let mut facts = vec![("Checkpoints", in_words)];
    let made = |checkpoint: &CheckpointView| {
        let size = format!("{} written, {} in all", bytes(checkpoint.checkpointed_size), bytes(checkpoint.state_size));
        format!("#{} in {}, {size}", checkpoint.id, duration(checkpoint.end_to_end_duration))
    };
    let latest = &statistics.latest;
    facts.extend(latest.completed.as_ref().map(|checkpoint| ("Latest", made(checkpoint))));
    facts.extend(latest.savepoint.as_ref().and_then(|savepoint| Some(("Savepoint", savepoint.external_path.clone()?))));
    facts.extend(latest.failed.as_ref().map(|failed| {
        let reason = failed.failure_message.as_deref().unwrap_or("no reason was given");
        ("Failed", format!("#{}: {reason}", failed.id))
    }));
    facts.extend(latest.restored.as_ref().map(|restored| {
        (
            "Restored",
            format!("from #{} at {}, {}", restored.id, time(restored.restore_timestamp), restored.external_path),
        )
    }));
    facts
}

/// Columns as wide as their widest cell, two spaces apart; the named ones to the right.
fn aligned(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let (gap, width) = (if column == 0 { "" } else { "  " }, widths[column]);
            let _ = if right.contains(&column) {
                write!(line, "{gap}{cell:>width$}")
            } else {
                write!(line, "{gap}{cell:<width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Milliseconds since the epoch as a date and time in UTC.
fn time(ms: i64) -> String {
    if ms < 0 {
        return "-".to_string();
    }
    let (days, second) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1_000);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// Days since the epoch as a date of the Gregorian calendar (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Milliseconds in the two largest units.
fn duration(ms: i64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        _ if ms < 0 => "-".to_string(),
        0 => format!("{ms} ms"),
        1..=59 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        60..=3_599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1_024.0, 0);
    while size >= 1_024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1_024.0, unit + 1);
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A number with commas between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(1_709_164_800_000), "2024-02-29 00:00:00Z");
        assert_eq!(time(1_767_225_599_999), "2025-12-31 23:59:59Z");
        assert_eq!(time(4_107_542_400_000), "2100-03-01 00:00:00Z");
        assert_eq!(time(-1), "-");
    }

    #[test]
    fn durations_sizes_and_counts_are_short() {
        let durations = [
            (-1, "-"),
            (7, "7 ms"),
            (1_990, "1.9 s"),
            (61_000, "1 min 1 s"),
            (7_380_000, "2 h 3 min"),
            (90_000_000, "1 d 1 h"),
        ];
        for (ms, expected) in durations {
            assert_eq!(duration(ms), expected);
        }
        assert_eq!([bytes(1_023), bytes(1_536), bytes(5 << 30)], ["1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_string(), "long".to_string()], vec!["ñandú".to_string(), "1".to_string()]];
        assert_eq!(aligned(&rows, &[1]), "a      long\nñandú     1\n");
    }
}
