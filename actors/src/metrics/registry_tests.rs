//! What scrapers and REST read from a registry while subtasks come and go.

use millstream_runtime::chain::source::SourceFigures;
use millstream_runtime::ids::{SubtaskIndex, VertexId};

use super::*;
use crate::metrics::subtask::Phase;

fn registry() -> Registry {
    Registry::new("box", "node-1", SdkMeterProvider::builder())
}

fn task(index: u32, attempt: u32) -> TaskScope {
    TaskScope {
        job: JobScope { job: JobId([0x11; 16]), name: "fraud \"x\"".to_string() },
        subtask: SubtaskId { vertex: VertexId([0x22; 16]), index: SubtaskIndex(index) },
        task_name: "Source: a -> map".to_string(),
        attempt,
    }
}

fn lines_of(text: &str, name: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']))
        .map(str::to_string)
        .collect()
}

#[test]
fn prometheus_text_is_named_as_flinks_reporter_names_it() {
    let registry = registry();
    let first = registry.task(&task(0, 0), 0);
    let second = registry.task(&task(1, 0), 0);
    first.add_in(7, 70);
    second.add_in(8, 80);
    let text = registry.prometheus().expect("not shut down");
    let labels = |index: u32| {
        format!(
            "host=\"box\",job_id=\"{}\",job_name=\"fraud \\\"x\\\"\",subtask_index=\"{index}\",task_attempt_num=\"0\",\
             task_id=\"{}\",task_name=\"Source: a -> map\",tm_id=\"node-1\"",
            "11".repeat(16),
            "22".repeat(16)
        )
    };
    assert_eq!(
        lines_of(&text, "flink_taskmanager_job_task_numRecordsIn"),
        [
            format!("flink_taskmanager_job_task_numRecordsIn{{{}}} 7", labels(0)),
            format!("flink_taskmanager_job_task_numRecordsIn{{{}}} 8", labels(1)),
        ]
    );
    let head = "# HELP flink_taskmanager_job_task_numRecordsIn numRecordsIn (scope: taskmanager_job_task)\n\
                # TYPE flink_taskmanager_job_task_numRecordsIn gauge\n";
    assert!(text.contains(head), "{text}");
    assert!(text.contains("flink_taskmanager_job_task_currentInputWatermark"));
    assert!(text.contains("-9223372036854775808"));
}

#[test]
fn every_scope_has_its_prefix() {
    let registry = registry();
    let _task = registry.task(&task(0, 0), 0);
    let source = registry.source(&task(0, 0), "a", 0);
    let job = registry.job(&task(0, 0).job);
    let cluster = registry.cluster();
    let figures = SourceFigures { records: 3, event_time: None, watermark: 0, splits_finished: 0, pending_bytes: None };
    source.update(&figures, 0);
    job.set_restarts(2);
    cluster.set_slots(1, 4);
    let text = registry.prometheus().expect("not shut down");
    for (name, value) in [
        ("flink_taskmanager_job_task_operator_numRecordsIn", " 3"),
        ("flink_jobmanager_job_numRestarts", " 2"),
        ("flink_jobmanager_taskSlotsTotal", " 4"),
        ("flink_jobmanager_taskSlotsAvailable", " 1"),
    ] {
        let lines = lines_of(&text, name);
        assert!(lines.len() == 1 && lines[0].ends_with(value), "{name}: {lines:?}");
    }
    assert!(lines_of(&text, "flink_taskmanager_job_task_operator_pendingBytes").is_empty(), "unknown is absent");
}

#[test]
fn a_subtask_that_is_gone_is_no_longer_reported() {
    let registry = registry();
    let first = registry.task(&task(0, 0), 0);
    let _other = registry.task(&task(1, 0), 0);
    assert_eq!(lines_of(&registry.prometheus().expect("up"), "flink_taskmanager_job_task_numRecordsIn").len(), 2);
    drop(first);
    assert_eq!(lines_of(&registry.prometheus().expect("up"), "flink_taskmanager_job_task_numRecordsIn").len(), 1);
    assert!(registry.task_values(task(0, 0).job.job, task(0, 0).subtask).is_none());
}

#[test]
fn an_earlier_attempt_that_ends_late_does_not_remove_the_later_one() {
    let registry = registry();
    let earlier = registry.task(&task(0, 0), 0);
    let later = registry.task(&task(0, 1), 0);
    later.add_in(5, 0);
    drop(earlier);
    let lines = lines_of(&registry.prometheus().expect("up"), "flink_taskmanager_job_task_numRecordsIn");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("task_attempt_num=\"1\"") && lines[0].ends_with(" 5"), "{lines:?}");
}

#[test]
fn rest_and_prometheus_tell_the_same_after_a_sample() {
    let registry = registry();
    let scope = task(0, 0);
    let metrics = registry.task(&scope, 0);
    let source = registry.source(&scope, "my source", 1_000);
    metrics.enter(Phase::Busy, 0);
    metrics.add_out(500, 0);
    let figures =
        SourceFigures { records: 500, event_time: Some(900), watermark: 0, splits_finished: 0, pending_bytes: None };
    source.update(&figures, 1_000);
    registry.sample(Now { wall_ms: 3_000, monotonic_ns: 2_000_000_000 });
    let values = registry.task_values(scope.job.job, scope.subtask).expect("runs here");
    let value = |name: &str| values.get(name).map(String::as_str);
    assert_eq!(value("numRecordsOutPerSecond"), Some("250.0"));
    assert_eq!(value("busyTimeMsPerSecond"), Some("1000.0"));
    assert_eq!(value("idleTimeMsPerSecond"), Some("0"));
    assert_eq!(value("isBackPressured"), Some("false"));
    assert_eq!(value("my_source.currentEmitEventTimeLag"), Some("100"));
    assert_eq!(value("my_source.sourceIdleTime"), Some("2000"));
    let text = registry.prometheus().expect("not shut down");
    let rate = lines_of(&text, "flink_taskmanager_job_task_numRecordsOutPerSecond");
    assert!(rate[0].ends_with(" 250.0"), "{rate:?}");
}

#[test]
fn jobs_and_the_cluster_have_values_by_name() {
    let registry = registry();
    let job = registry.job(&task(0, 0).job);
    job.set_checkpoints(2, 0, 1);
    let values = registry.job_values(task(0, 0).job.job).expect("registered");
    assert_eq!(values.get("numberOfCompletedCheckpoints").map(String::as_str), Some("2"));
    assert!(registry.cluster_values().is_none());
    let _cluster = registry.cluster();
    assert!(registry.cluster_values().is_some());
}
