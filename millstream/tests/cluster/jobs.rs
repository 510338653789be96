//! The jobs that are tormented, each with what its output must be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::processes::Cluster;
use super::support::workload::Workload;

/// A job whose output is known.
pub trait Tormented {
    /// Submits it, so slowed down that it is still running when things happen to it.
    fn submit(&self, cluster: &Cluster, rate: u64) -> String;

    /// Compares its output with that of a run without faults.
    fn check(&self);
}

/// The body that submits a job, slowed down to so many records per second.
pub fn request(options: &[String], parallelism: u32, rate: u64) -> Value {
    json!({
        "programArgsList": options,
        "parallelism": parallelism,
        "flinkConfiguration": {
            "source.rate-limit": rate.to_string(),
            "execution.checkpointing.interval": "100ms",
        },
    })
}

/// Fraud detection over generated transactions; `fraud-checker` recomputes what it must write.
pub struct Fraud(Workload);

impl Fraud {
    pub fn new(name: &str, events: u64, seed: u64) -> Self {
        Self(Workload::generate(name, events, seed))
    }

    /// Its options, as on a command line.
    pub fn options(&self) -> Vec<String> {
        self.0.options()
    }

    /// The files that it has made visible, each with when it was written.
    pub fn visible(&self) -> BTreeMap<PathBuf, SystemTime> {
        let folder = fs::read_dir(self.0.path("output/alerts")).expect("it has alerts");
        let files = folder.map(|file| file.expect("a file"));
        let written = |file: &fs::DirEntry| file.metadata().and_then(|known| known.modified()).expect("a time");
        files.map(|file| (file.path(), written(&file))).collect()
    }
}

impl Tormented for Fraud {
    fn submit(&self, cluster: &Cluster, rate: u64) -> String {
        cluster.submit("fraud-detection", &request(&self.options(), 3, rate))
    }

    fn check(&self) {
        self.0.check();
    }
}

/// User, start, end, clicks.
pub type Session = (u64, i64, i64, u64);

/// The example `user-sessions`: state and timers.
pub struct Sessions {
    output: PathBuf,
    clicks: u64,
}

impl Sessions {
    pub fn new(name: &str, clicks: u64) -> Self {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-{name}"));
        let _ = fs::remove_dir_all(&output);
        Self { output, clicks }
    }

    /// Sessions as they are defined, from sorted clicks.
    pub fn expected(&self) -> Vec<Session> {
        let mut clicks = BTreeMap::<u64, Vec<i64>>::new();
        for index in 0..self.clicks {
            let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
            let time = i64::try_from(index * 20 + (mixed >> 8) % 1_500).expect("small");
            clicks.entry(mixed % 97).or_default().push(time);
        }
        let mut sessions = Vec::new();
        for (user, mut times) in clicks {
            times.sort_unstable();
            let mut rest = times.as_slice();
            while let Some(start) = rest.first() {
                let length = 1 + rest.windows(2).take_while(|pair| pair[1] - pair[0] < 2_000).count();
                sessions.push((user, *start, rest[length - 1], length as u64));
                rest = &rest[length..];
            }
        }
        sessions
    }
}

impl Tormented for Sessions {
    fn submit(&self, cluster: &Cluster, rate: u64) -> String {
        let options = ["--clicks".to_string(), self.clicks.to_string(), "--output".to_string()];
        let options = [&options[..], &[self.output.display().to_string()]].concat();
        // One of the three subtasks reads, with its third of the rate.
        cluster.submit("user-sessions", &request(&options, 3, 3 * rate))
    }

    fn check(&self) {
        let mut found = Vec::new();
        for file in fs::read_dir(&self.output).expect("the output") {
            let path = file.expect("a file").path();
            // What starts with a dot is not committed.
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) || path.is_dir() {
                continue;
            }
            for line in fs::read_to_string(&path).expect("it is text").lines() {
                let line: Value = serde_json::from_str(line).expect("a session");
                let number = |key: &str| line[key].as_i64().expect("a number");
                found.push((
                    line["user"].as_u64().expect("a user"),
                    number("start"),
                    number("end"),
                    line["clicks"].as_u64().expect("a number"),
                ));
            }
        }
        found.sort_unstable();
        assert_eq!(found, self.expected());
    }
}
