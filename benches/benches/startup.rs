//! From the command to a cluster that is ready, from a submission to the first record, and what an idle node weighs.
#![expect(clippy::disallowed_methods, reason = "benchmarks measure time")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use benches::cases::{Case, Measured, Setting};
use benches::cluster::{self, Cluster};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cluster::main(&[Case { name: "startup", run }])
}

fn run(setting: &Setting) -> Result<Measured, String> {
    let cluster = Cluster::start(&setting.folder)?;
    std::thread::sleep(Duration::from_millis(500));
    let idle = (0..cluster.nodes.len()).map(|node| cluster.memory(node)).fold(0.0, f64::max);
    let submitted = Instant::now();
    let job = cluster.submit(2, 100_000)?;
    let first = cluster.until_new_beat(&mut Vec::new())?;
    job.cancel().map_err(|error| error.to_string())?;
    Ok(Measured {
        parallelism: 2,
        records: 1,
        seconds: cluster.ready_ms / 1e3,
        correct: true,
        more: vec![
            ("ready_ms".to_string(), cluster.ready_ms),
            ("submit_to_first_record_ms".to_string(), first.duration_since(submitted).as_secs_f64() * 1e3),
            ("idle_node_rss_anon_bytes".to_string(), idle),
        ],
        ..Measured::default()
    })
}
