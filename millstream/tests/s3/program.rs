//! The program as a process with its checkpoints on S3: killed, resumed, and refused with exit code 3.

use std::fs;
use std::path::Path;

use super::process::{Place, run_with};
use super::s3_server::{self, S3Server};

const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];

fn flags(server: &S3Server, checkpoints: &str) -> Vec<String> {
    let set = |key: &str, value: &str| ["-D".to_string(), format!("{key}={value}")];
    let endpoint = server.endpoint();
    let pairs = [("s3.endpoint", endpoint.as_str()), ("execution.checkpointing.dir", checkpoints)];
    pairs.iter().flat_map(|(key, value)| set(key, value)).collect()
}

fn job(place: &Place, server: &S3Server, checkpoints: &str, more: &[&str]) -> Vec<String> {
    let flags = flags(server, checkpoints);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    place.job(&flags)
}

/// The lines of all alerts, in order.
fn alerts(output: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in fs::read_dir(output.join("alerts")).expect("the alerts are there") {
        let file = file.expect("an entry").path();
        if !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            lines.extend(fs::read_to_string(file).expect("text").lines().map(str::to_string));
        }
    }
    lines.sort_unstable();
    lines
}

#[test]
fn the_program_is_killed_and_goes_on_from_s3() {
    let Some(server) = s3_server::shared() else { return };
    let undisturbed = Place::new("s3-undisturbed");
    let done = run_with(&undisturbed, &undisturbed.job(&[]), &[]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let expected = alerts(&undisturbed.path("out"));
    assert!(!expected.is_empty());

    let place = Place::new("s3-killed");
    let checkpoints = server.location("jobs/of/this/program").to_string();
    for failpoint in ["segment-written:9", "manifest-created:3", "log-appended:4", "before-commit:2"] {
        let slow = ["-D", "source.rate-limit=20000"];
        let variables = [&CREDENTIALS[..], &[("MILLSTREAM_FAILPOINT", failpoint)]].concat();
        let done = run_with(&place, &job(&place, server, &checkpoints, &slow), &variables);
        assert_eq!(done.code, -1, "it was to end at {failpoint}: {}", done.stderr);
    }
    let done = run_with(&place, &job(&place, server, &checkpoints, &[]), &CREDENTIALS);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("continues from checkpoint"), "{}", done.stderr);
    assert_eq!(alerts(&place.path("out")), expected);
}

#[test]
fn a_bucket_that_is_not_there_ends_the_program_with_code_3_and_advice() {
    let Some(server) = s3_server::shared() else { return };
    let place = Place::new("s3-missing");
    let secret = ["-D", "s3.access-key=test", "-D", "s3.secret-key=hunter2"];
    let done = run_with(&place, &job(&place, server, "s3://nobody-made-it/a", &secret), &[]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    for part in ["s3://nobody-made-it/a cannot be used", "NoSuchBucket", "make the bucket"] {
        assert!(done.stderr.contains(part), "'{part}': {}", done.stderr);
    }
    assert!(!done.stderr.contains("hunter2") && !done.stdout.contains("hunter2"), "{}", done.stderr);
    let half = ["-D", "s3.access-key=test"];
    let done = run_with(&place, &job(&place, server, "s3://nobody-made-it/a", &half), &[]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("s3.secret-key"), "{}", done.stderr);
}
