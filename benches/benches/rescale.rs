//! A job under load is run at another parallelism, 2 to 4 to 3: from the request to the first record of the new subtasks, and
//! the pause in between.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::cases::{Case, Measured, Setting};
use benches::cluster::{self, Cluster};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cluster::main(&[Case { name: "rescale-2-4-3", run }])
}

fn run(setting: &Setting) -> Result<Measured, String> {
    let cluster = Cluster::start(&setting.folder)?;
    let job = cluster.submit(2, 100_000)?;
    let mut known = Vec::new();
    cluster.until_new_beat(&mut known)?;
    let mut more = Vec::new();
    for parallelism in [4, 3] {
        cluster.beats.listen(Duration::from_secs(2), &mut known);
        let asked = Instant::now();
        job.rescale(parallelism).map_err(|error| error.to_string())?;
        let flowing = cluster.until_new_beat(&mut known)?.duration_since(asked).as_secs_f64();
        more.push((format!("to_{parallelism}_ms"), flowing * 1e3));
    }
    job.cancel().map_err(|error| error.to_string())?;
    let seconds = more.iter().map(|(_, ms)| ms / 1e3).sum();
    Ok(Measured { parallelism: 2, records: 1, seconds, correct: true, more, ..Measured::default() })
}
