//! The field names of Flink's REST API, and the rules behind derived fields.

use super::*;

fn keys(value: &impl Serialize) -> Vec<String> {
    let fields: BTreeMap<String, serde::de::IgnoredAny> =
        rmp_serde::from_slice(&rmp_serde::to_vec_named(value).expect("plain data")).expect("a map");
    fields.into_keys().collect()
}

#[test]
fn an_overview_has_flinks_field_names() {
    let overview = JobOverview {
        jid: JobId::from_name("a"),
        name: "a".to_string(),
        start_time: 1,
        end_time: -1,
        duration: 2,
        state: JobStatus::Running,
        last_modification: 3,
        tasks: TaskCounts::default(),
    };
    let expected = ["duration", "end-time", "jid", "last-modification", "name", "start-time", "state", "tasks"];
    assert_eq!(keys(&overview), expected);
}

#[test]
fn input_and_output_have_flinks_field_names() {
    let expected = [
        "accumulated-backpressured-time",
        "accumulated-busy-time",
        "accumulated-idle-time",
        "read-bytes",
        "read-bytes-complete",
        "read-records",
        "read-records-complete",
        "write-bytes",
        "write-bytes-complete",
        "write-records",
        "write-records-complete",
    ];
    assert_eq!(keys(&IoMetrics::default()), expected);
}

#[test]
fn sums_are_complete_only_if_every_part_is() {
    let mut sum = IoMetrics::zero();
    sum.add(&IoMetrics { read_records: 2, ..IoMetrics::zero() });
    assert!(sum.read_records_complete && sum.read_records == 2);
    sum.add(&IoMetrics { read_records: 3, ..IoMetrics::default() });
    assert!(!sum.read_records_complete && sum.read_records == 5);
}

#[test]
fn a_vertex_is_as_far_as_its_slowest_subtask_and_failed_if_one_is() {
    let of = |states: &[ExecutionState]| ExecutionState::of_vertex(&states.iter().copied().collect());
    use ExecutionState::{Created, Failed, Finished, Initializing, Running};
    assert_eq!(of(&[Running, Finished]), Running);
    assert_eq!(of(&[Running, Initializing]), Initializing);
    assert_eq!(of(&[Finished, Finished]), Finished);
    assert_eq!(of(&[Running, Failed]), Failed);
    assert_eq!(of(&[]), Created);
}

#[test]
fn counts_name_every_state_and_add_up() {
    let counts: StatusCounts =
        [ExecutionState::Running, ExecutionState::Running, ExecutionState::Failed].into_iter().collect();
    assert_eq!(counts.0.len(), ExecutionState::ALL.len());
    let tasks = TaskCounts::from(&counts);
    assert_eq!((tasks.running, tasks.failed, tasks.total), (2, 1, 3));
}
