//! The program as a user meets it: exit codes, what goes to which stream, continuing, replacing and stopping runs, and the
//! commands of a second terminal.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod process;

use std::fs;
use std::path::Path;

use process::{Place, input, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All committed lines of a folder, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            lines.extend(fs::read_to_string(path).unwrap().lines().map(str::to_string));
        }
    }
    lines.sort();
    lines
}

/// Everything that must not depend on how often a run was interrupted.
fn results(place: &Place) -> (Vec<String>, Vec<String>, String, String) {
    let out = place.path("out");
    let table = run(place, &["table", "out/blocklist", "--json"]);
    assert_eq!(table.code, 0, "{}", table.stderr);
    let summary = fs::read_to_string(out.join("summary.json")).unwrap();
    (lines(&out.join("alerts")), lines(&out.join("dead-letters")), summary, table.stdout)
}

fn undisturbed() -> (Vec<String>, Vec<String>, String, String) {
    let place = Place::new("undisturbed");
    let done = run(&place, &place.job(&["-p", "2"]));
    assert_eq!(done.code, 0, "{}", done.stderr);
    results(&place)
}

#[test]
fn help_names_the_commands_and_the_exit_codes() {
    let place = Place::new("help");
    let help = run(&place, &["--help"]);
    assert_eq!(help.code, 0);
    for word in [
        "run",
        "jobs",
        "generate",
        "submit",
        "list",
        "nodes",
        "describe",
        "checkpoint",
        "savepoint",
        "stop",
        "cancel",
        "table",
        "130",
    ] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
    let jobs = run(&place, &["jobs"]);
    assert!(jobs.stdout.contains("fraud-detection") && jobs.stdout.contains("--watch"), "{}", jobs.stdout);
    let jobs: serde_json::Value = serde_json::from_str(&run(&place, &["jobs", "--json"]).stdout).unwrap();
    assert_eq!(jobs["jobs"][0]["name"], "fraud-detection");
}

#[test]
fn wrong_usage_and_configuration_exit_with_2() {
    let place = Place::new("usage");
    for arguments in [
        &["no-such-command"][..],
        &["run", "no-such-job"],
        &["run", "fraud-detection", "-D", "no equal sign"],
        &["run", "fraud-detection", "-D", "rest.port=http"],
        &["run", "fraud-detection", "-p", "0"],
        &["run", "fraud-detection", "--config", "missing.toml"],
        &["run", "fraud-detection", "--fresh", "-s", "somewhere"],
        &["run", "fraud-detection", "--log", "fraud=loud"],
        &["run", "fraud-detection", "--", "--input", "in", "--output", "out", "--inputs", "x"],
        &["run", "fraud-detection", "--", "--input", "in", "--output", "in"],
        &["generate", "transactions", "--output", "in", "--events", "0"],
        &["describe", "not-an-id"],
        &["list", "--address", "http://host:port"],
        &["stop"],
    ] {
        let refused = run(&place, arguments);
        assert_eq!(refused.code, 2, "{arguments:?}: {}", refused.stderr);
        assert!(!refused.stderr.is_empty() && refused.stdout.is_empty(), "{arguments:?}");
    }
    let wrong = run(&place, &["run", "fraud-detection", "-D", "rest.port=http"]);
    assert!(wrong.stderr.contains("rest.port") && wrong.stderr.contains("65535"), "{}", wrong.stderr);
}

#[test]
fn input_and_state_that_cannot_be_used_exit_with_3() {
    let place = Place::new("refused");
    let missing =
        run(&place, &["run", "fraud-detection", "-D", "rest.port=0", "--", "--input", "no", "--output", "out"]);
    assert_eq!(missing.code, 3, "{}", missing.stderr);
    let savepoint = run(&place, &place.job(&["-s", "nowhere"]));
    assert_eq!(savepoint.code, 3, "{}", savepoint.stderr);
    assert!(savepoint.stderr.contains("nowhere"), "{}", savepoint.stderr);
    for arguments in [&["savepoint", "inspect", "nowhere"], &["table", "nowhere", "--json"]] {
        assert_eq!(run(&place, arguments).code, 3, "{arguments:?}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_exits_with_4() {
    let place = Place::new("away");
    // Port 1 needs privileges to listen on, and nobody does.
    let away = run(&place, &["list", "--address", "http://127.0.0.1:1"]);
    assert_eq!(away.code, 4, "{}", away.stderr);
    let id = "0".repeat(32);
    let away = run(&place, &["stop", &id, "-D", "rest.port=1"]);
    assert_eq!(away.code, 4, "{}", away.stderr);
    assert!(away.stderr.contains("127.0.0.1:1"), "{}", away.stderr);
}

#[test]
fn the_same_arguments_generate_the_same_bytes() {
    let place = Place::new("generate");
    let generate = |folder: &str, seed: &str| {
        let arguments =
            ["generate", "transactions", "--output", folder, "--events", "3000", "--files", "3", "--seed", seed];
        let made = run(&place, &arguments);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let mut files: Vec<_> = fs::read_dir(place.path(folder)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 3);
        files.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>()
    };
    let first = generate("a", "5");
    assert_eq!(first, generate("b", "5"));
    assert_ne!(first, generate("c", "6"));
    assert_eq!(first.iter().map(|file| file.iter().filter(|byte| **byte == b'\n').count()).sum::<usize>(), 3_000);
}

#[test]
fn a_finished_run_ends_with_its_summary_and_the_next_one_replaces_it() {
    let place = Place::new("finished");
    let first = run(&place, &place.job(&[]));
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.last_line(), "summary: out/summary.json");
    assert!(first.stdout.contains("WORST OFFENDERS") && first.stdout.contains("many-transactions"), "{}", first.stdout);
    assert!(first.stderr.contains("watermark"), "progress on standard error: {}", first.stderr);
    let before = results(&place);
    let second = run(&place, &place.job(&["-p", "1"]));
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert!(second.stderr.contains("replacing its output"), "{}", second.stderr);
    assert_eq!(results(&place), before);
    let as_json = run(&place, &place.job(&["--json"]));
    let outcome: serde_json::Value = serde_json::from_str(&as_json.stdout).unwrap();
    assert_eq!((outcome["state"].as_str(), outcome["summary"].as_str()), (Some("FINISHED"), Some("out/summary.json")));
}

#[test]
fn ctrl_c_stops_with_a_savepoint_that_another_parallelism_goes_on_from() {
    let place = Place::new("stopped");
    let mut running = place.start(&place.job(&["-p", "2", "-D", "source.rate-limit=4000"]));
    running.until_checkpoint();
    running.signal("INT");
    let stopped = running.wait();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let savepoint = stopped.last_line().strip_prefix("savepoint: ").expect("the last line").to_string();
    assert!(stopped.stderr.contains(&format!("-s {savepoint}")), "how to go on: {}", stopped.stderr);

    let inspected = run(&place, &["savepoint", "inspect", &savepoint, "--json"]);
    let inspected: serde_json::Value = serde_json::from_str(&inspected.stdout).unwrap();
    assert_eq!(inspected["job_name"], "fraud-detection");

    let resumed = run(&place, &place.job(&["-p", "3", "-s", &savepoint]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(resumed.stderr.contains("continues from"), "{}", resumed.stderr);
    assert_eq!(results(&place), undisturbed());

    // The output goes beyond the savepoint by now.
    let refused = run(&place, &place.job(&["-s", &savepoint]));
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("--fresh"), "{}", refused.stderr);
    assert_eq!(results(&place), undisturbed());
}

#[test]
fn a_terminated_run_goes_on_with_the_same_command() {
    let place = Place::new("terminated");
    let mut running = place.start(&place.job(&["-D", "source.rate-limit=4000"]));
    running.until_checkpoint();
    running.signal("TERM");
    let stopped = running.wait();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    assert!(stopped.last_line().starts_with("savepoint: "), "{}", stopped.stdout);
    let resumed = run(&place, &place.job(&[]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(resumed.stderr.contains("unfinished run"), "{}", resumed.stderr);
    assert_eq!(results(&place), undisturbed());
}

#[test]
fn a_killed_run_is_continued_or_with_fresh_started_anew() {
    let place = Place::new("killed");
    for round in 0..2 {
        let mut running = place.start(&place.job(&["-D", "source.rate-limit=4000"]));
        running.until_checkpoint();
        running.signal("KILL");
        let killed = running.wait();
        assert_eq!(killed.code, -1, "round {round}: {}", killed.stderr);
    }
    let fresh = run(&place, &place.job(&["--fresh"]));
    assert_eq!(fresh.code, 0, "{}", fresh.stderr);
    assert!(fresh.stderr.contains("starting anew") && !fresh.stderr.contains("continues"), "{}", fresh.stderr);
    assert_eq!(results(&place), undisturbed());
    for folder in ["out/alerts", "out/dead-letters"] {
        let hidden = fs::read_dir(place.path(folder))
            .unwrap()
            .any(|file| text(file.unwrap().file_name().as_encoded_bytes()).starts_with('.'));
        assert!(!hidden, "{folder} still has uncommitted files");
    }
}

#[test]
fn a_savepoint_over_the_output_of_another_run_is_refused() {
    let place = Place::new("foreign");
    let mut running = place.start(&place.job(&["-D", "source.rate-limit=4000"]));
    running.until_checkpoint();
    running.signal("INT");
    let savepoint = running.wait().last_line().strip_prefix("savepoint: ").expect("the last line").to_string();
    let input = input();
    let elsewhere = |more: &[&str]| {
        let mut arguments = vec!["run", "fraud-detection", "-D", "rest.port=0"];
        arguments.extend(more);
        arguments.extend(["--", "--input", &input, "--output", "elsewhere"]);
        run(&place, &arguments)
    };
    let other = elsewhere(&[]);
    assert_eq!(other.code, 0, "{}", other.stderr);
    let before = lines(&place.path("elsewhere/alerts"));
    let refused = elsewhere(&["-s", &savepoint]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--output") || refused.stderr.contains("another output folder"),
        "{}",
        refused.stderr
    );
    assert_eq!(lines(&place.path("elsewhere/alerts")), before);

    // Without the state of the run that wrote it, output is foreign too.
    fs::remove_dir_all(place.path("elsewhere/.millstream")).unwrap();
    let refused = elsewhere(&[]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("--fresh"), "{}", refused.stderr);
    assert_eq!(elsewhere(&["--fresh"]).code, 0);
}

#[test]
fn a_second_signal_ends_at_once_with_130() {
    let place = Place::new("impatient");
    let mut running = place.start(&place.job(&["-D", "source.rate-limit=500"]));
    running.until_running();
    running.signal("INT");
    running.signal("TERM");
    let ended = running.wait();
    assert_eq!(ended.code, 130, "{}\n{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.is_empty(), "nothing is promised: {}", ended.stdout);
    // The killed one has left nothing half done.
    let resumed = run(&place, &place.job(&[]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(results(&place), undisturbed());
}

#[test]
fn a_second_terminal_lists_describes_checkpoints_and_stops() {
    let place = Place::new("remote");
    let mut running = place.start(&place.job(&["-D", "source.rate-limit=2000"]));
    let id = running.until_running();
    let address = running.address();
    let remote = |arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--address", &address]);
        run(&place, &arguments)
    };
    assert!(remote(&["list"]).stdout.contains(&id));
    let body: serde_json::Value = serde_json::from_str(&remote(&["list", "--json"]).stdout).unwrap();
    assert_eq!(body["jobs"][0]["jid"], id.as_str());
    assert!(remote(&["describe", &id]).stdout.contains("Judge"));
    let body: serde_json::Value = serde_json::from_str(&remote(&["describe", &id, "--json"]).stdout).unwrap();
    assert_eq!((body["state"].as_str(), body["vertices"].as_array().map(Vec::len)), (Some("RUNNING"), Some(6)));
    assert!(remote(&["checkpoint", &id]).stdout.starts_with("checkpoint: "));
    let savepoint = remote(&["savepoint", &id, "--target", "kept"]);
    let path = savepoint.last_line().strip_prefix("savepoint: ").expect("a savepoint").to_string();
    assert!(path.starts_with("kept/"), "{path}");
    assert_eq!(remote(&["describe", &"1".repeat(32)]).code, 2, "no such job");
    let stopped = remote(&["stop", &id]);
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let ended = running.wait();
    assert_eq!((ended.code, ended.last_line()), (0, stopped.last_line()));
    let resumed = run(&place, &place.job(&["-p", "1"]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(results(&place), undisturbed());
}

#[test]
fn a_cancelled_run_is_no_success() {
    let place = Place::new("cancelled");
    let mut running = place.start(&place.job(&["-D", "source.rate-limit=2000"]));
    let id = running.until_running();
    let address = running.address();
    let cancelled = run(&place, &["cancel", &id, "--address", &address]);
    assert_eq!(cancelled.code, 0, "{}", cancelled.stderr);
    let ended = running.wait();
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("cancelled") && ended.stdout.is_empty(), "{}", ended.stderr);
}

#[test]
fn a_job_that_fails_exits_with_1_and_goes_on_once_the_cause_is_repaired() {
    let place = Place::new("failed");
    let flags = ["-D", "source.rate-limit=4000", "-D", "restart-strategy.type=none"];
    let mut running = place.start(&place.job(&flags));
    running.until_checkpoint();
    let (folder, aside) = (place.path("out/dead-letters"), place.path("aside"));
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "no folder").unwrap();
    let failed = running.wait();
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("dead-letters") && failed.stdout.is_empty(), "{}", failed.stderr);
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    let resumed = run(&place, &place.job(&[]));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert!(resumed.stderr.contains("unfinished run"), "{}", resumed.stderr);
    assert_eq!(results(&place), undisturbed());
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let place = Place::new("precedence");
    fs::write(place.path("millstream.toml"), "parallelism.default = 1\n[restt]\nport = 1\n").unwrap();
    let told = |done: &process::Done| {
        assert_eq!(done.code, 0, "{}", done.stderr);
        let (_, parallelism) = done.stderr.split_once("parallelism ").expect("told at the start");
        parallelism.lines().next().unwrap_or_default().to_string()
    };
    let file = ["--config", "millstream.toml"];
    let from_file = run(&place, &place.job(&file));
    assert_eq!(told(&from_file), "1");
    assert!(from_file.stderr.contains("restt.port") && from_file.stderr.contains("rest.port"), "{}", from_file.stderr);
    let variable = [("MILLSTREAM_PARALLELISM__DEFAULT", "2")];
    assert_eq!(told(&process::run_with(&place, &place.job(&file), &variable)), "2");
    let flag = [&file[..], &["-p", "3"]].concat();
    assert_eq!(told(&process::run_with(&place, &place.job(&flag), &variable)), "3");
}

#[test]
fn a_busy_port_is_a_warning() {
    let place = Place::new("busy");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let input = input();
    let setting = format!("rest.port={port}");
    let done = run(&place, &["run", "fraud-detection", "-D", &setting, "--", "--input", &input, "--output", "out"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("warning") && done.stderr.contains("rest.port"), "{}", done.stderr);
}

#[test]
fn a_second_run_over_the_output_of_a_running_one_is_refused() {
    let place = Place::new("twice");
    let mut running = place.start(&place.job(&["-D", "source.rate-limit=2000"]));
    running.until_checkpoint();
    for flags in [&[][..], &["--fresh"]] {
        let refused = run(&place, &place.job(flags));
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("another running process"), "{}", refused.stderr);
    }
    running.signal("INT");
    assert_eq!(running.wait().code, 0);
    assert_eq!(run(&place, &place.job(&[])).code, 0);
    assert_eq!(results(&place), undisturbed());
}

#[test]
fn certificates_of_nodes_are_signed_by_one_authority_and_none_is_overwritten() {
    let place = Place::new("certs");
    let made = run(&place, &["certs", "--output", "certs", "one", "two"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert_eq!(made.stdout.lines().count(), 2);
    let more = run(&place, &["certs", "--output", "certs", "three"]);
    assert_eq!(more.code, 0, "{}", more.stderr);
    let now_ms = millstream_runtime::ports::Clock::now_ms(&millstream_actors::world::SystemClock);
    for node in ["one", "two", "three"] {
        let file = |name: String| place.path(&format!("certs/{name}"));
        let (certificate, key) = (file(format!("{node}.pem")), file(format!("{node}.key")));
        millstream_cluster::Certificates::load(&file("ca.pem".to_owned()), &certificate, &key, now_ms).unwrap();
    }
    let again = run(&place, &["certs", "--output", "certs", "one"]);
    assert_eq!(again.code, 2, "{}", again.stderr);
    assert!(again.stderr.contains("one.key"), "{}", again.stderr);
}
