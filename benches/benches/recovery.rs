//! A task manager is killed, and nobody starts it again: until records flow on the other one.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::cases::{Case, Measured, Setting};
use benches::cluster::{self, Cluster};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cluster::main(&[Case { name: "recovery-lost-task-manager", run }])
}

fn run(setting: &Setting) -> Result<Measured, String> {
    let cluster = Cluster::start(&setting.folder)?;
    let job = cluster.submit(2, 100_000)?;
    let mut known = Vec::new();
    cluster.until_new_beat(&mut known)?;
    cluster.listen(Duration::from_secs(2), &mut known)?;
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
