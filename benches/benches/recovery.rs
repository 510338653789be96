//! A task manager is killed: until records flow again. Without state and nobody starting it again; and with a gigabyte of
//! keyed state, on the other one alone, or on both when it is started again with its folder.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::cases::{Case, Measured, Setting};
use benches::cluster::{self, Cluster};
use benches::holding::ROW_BYTES;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of keyed state, and with `--quick`.
const STATE_BYTES: [u64; 2] = [1_000_000_000, 50_000_000];
/// Slots of one task manager.
const SLOTS: usize = 2;

fn main() -> ExitCode {
    cluster::main(&[
        Case { name: "recovery-lost-task-manager", run: without_state },
        Case { name: "recovery-state-survivor-alone", run: |setting| with_state(setting, false) },
        Case { name: "recovery-state-node-restarted", run: |setting| with_state(setting, true) },
    ])
}

fn without_state(setting: &Setting) -> Result<Measured, String> {
    let cluster = Cluster::start(&setting.folder)?;
    let job = cluster.submit(2, 100_000)?;
    let mut known = Vec::new();
    cluster.until_new_beat(&mut known)?;
    cluster.beats.listen(Duration::from_secs(2), &mut known);
    let killed = Instant::now();
    cluster.kill(1)?;
    let flowing = cluster.until_new_beat(&mut known)?.duration_since(killed).as_secs_f64();
    job.cancel().map_err(|error| error.to_string())?;
    Ok(Measured {
        parallelism: 2,
        records: 1,
        seconds: flowing,
        correct: true,
        more: vec![("kill_to_records_ms".to_string(), flowing * 1e3)],
        ..Measured::default()
    })
}

/// Correct is a recovery in which no row was made again: all state is still there.
fn with_state(setting: &Setting, restarted: bool) -> Result<Measured, String> {
    let failed = |error: millstream::client::Error| error.to_string();
    let cluster = match restarted {
        true => Cluster::start_restarting(&setting.folder)?,
        false => Cluster::start(&setting.folder)?,
    };
    let keys = STATE_BYTES[usize::from(setting.quick)] / ROW_BYTES;
    // Alone, the survivor has the slots that the job wants; else the job wants those of both.
    let nodes = if restarted { 2 } else { 1 };
    let parallelism = (nodes * SLOTS) as u32;
    let job = cluster.submit_holding(parallelism, 20_000, keys)?;
    let mut made = BTreeMap::new();
    cluster.beats.until("all rows are made", |heard| {
        made.insert(heard.number, heard.count);
        (made.values().sum::<u64>() >= keys).then_some(())
    })?;
    // All of it is in a checkpoint, and what nodes hold of it locally has caught up.
    for _ in 0..2 {
        job.checkpoint().map_err(failed)?;
    }
    let mut known: Vec<u64> = made.into_keys().collect();
    cluster.beats.listen(Duration::from_secs(8), &mut known);

    let killed = Instant::now();
    cluster.kill(1)?;
    let first = cluster.until_new_beat(&mut known)?.duration_since(killed);
    let survivor = cluster.nodes[2];
    // Those that work since the last node joined in: all of one attempt.
    let mut working = BTreeMap::<u32, BTreeSet<u64>>::new();
    let mut seen = BTreeSet::new();
    let mut made_again = 0;
    let (_, all) = cluster.beats.until("all subtasks work", |heard| {
        if known[..known.len() - 1].contains(&heard.number) {
            return None;
        }
        made_again += heard.count;
        if seen.insert(heard.process()) {
            working.clear();
        }
        working.entry(heard.process()).or_default().insert(heard.number);
        let all = |numbers: &BTreeSet<u64>| numbers.len() >= SLOTS;
        (working.len() == nodes && working.contains_key(&survivor) && working.values().all(all)).then_some(())
    })?;
    let all = all.duration_since(killed);
    job.cancel().map_err(failed)?;
    Ok(Measured {
        parallelism,
        records: 1,
        seconds: all.as_secs_f64(),
        correct: made_again == 0,
        more: vec![
            ("state_bytes".to_string(), (keys * ROW_BYTES) as f64),
            ("kill_to_first_records_ms".to_string(), first.as_secs_f64() * 1e3),
            ("kill_to_all_records_ms".to_string(), all.as_secs_f64() * 1e3),
        ],
        ..Measured::default()
    })
}
