//! Behaviour of the life cycle machine, event by event.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;
use crate::ids::{AttemptId, AttemptNumber, Epoch, RegionId};
use crate::ports::ErrorKind;

fn attempt(number: u32) -> AttemptId {
    AttemptId { epoch: Epoch(3), attempt: AttemptNumber(number) }
}

fn failure(kind: ErrorKind) -> Failure {
    Failure { subtask_name: Some("map (1/2)".to_owned()), ..Failure::of_job(kind, "broken") }
}

fn regions(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<RegionId> {
    numbers.into_iter().map(RegionId).collect()
}

/// Regions with the numbers of their deployments.
fn deploy(deployment: &[(u32, u32)]) -> Command {
    Command::Deploy(deployment.iter().map(|(region, number)| (RegionId(*region), attempt(*number))).collect())
}

/// A job that runs at time 0 in attempt 0 and restarts after 100 ms, so often.
fn running(attempts: u32) -> (Job, Vec<Command>) {
    let options = Options { restart: RestartOptions::FixedDelay { attempts, delay_ms: 100 }, ..Options::default() };
    let mut job = Job::new(Epoch(3), &regions(0..1), options, 1);
    let mut out = Vec::new();
    assert_eq!(job.submitted(2, &mut out), Reply::Accepted);
    assert_eq!(job.status(), JobStatus::Created);
    assert_eq!(job.deployed(attempt(0), 3), Reply::Accepted);
    assert_eq!(job.status(), JobStatus::Running);
    assert_eq!(std::mem::take(&mut out), [deploy(&[(0, 0)])]);
    (job, out)
}

#[test]
fn a_job_finishes_when_all_subtasks_have_and_the_end_is_recorded() {
    let (mut job, mut out) = running(0);
    job.all_finished(attempt(0), 10, &mut out);
    assert_eq!(std::mem::take(&mut out), [Command::RecordTerminal(JobStatus::Finished)]);
    assert_eq!(job.status(), JobStatus::Running, "nobody may be told before the record");
    job.terminal_recorded(11, &mut out);
    assert_eq!(out, [Command::ReachedTerminal(JobStatus::Finished)]);
    assert_eq!(job.cancel_requested(12, &mut out), Reply::Ignored);
    let times: Vec<_> = job.timestamps().iter().filter(|(_, at)| *at > 0).collect();
    let expected =
        [(JobStatus::Initializing, 1), (JobStatus::Created, 2), (JobStatus::Running, 3), (JobStatus::Finished, 11)];
    assert_eq!(times, expected);
}

#[test]
fn a_restart_waits_for_its_delay_and_for_the_old_subtasks() {
    for canceled_first in [false, true] {
        let (mut job, mut out) = running(1);
        job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
        assert_eq!(job.status(), JobStatus::Restarting);
        let expected = [
            Command::RecordFailure { attempt: attempt(0), restarts: true },
            Command::CancelSubtasks(attempt(0)),
            Command::ScheduleRestart { at_ms: 110 },
        ];
        assert_eq!(std::mem::take(&mut out), expected);
        job.restart_due(109, &mut out);
        if canceled_first {
            job.subtasks_canceled(attempt(0), 20, &mut out);
            assert_eq!(out, []);
            job.restart_due(110, &mut out);
        } else {
            job.restart_due(110, &mut out);
            assert_eq!(out, []);
            job.subtasks_canceled(attempt(0), 120, &mut out);
        }
        assert_eq!(out, [deploy(&[(0, 1)])]);
        assert_eq!((job.status(), job.restarts()), (JobStatus::Restarting, 1));
        job.deployed(attempt(1), 130);
        assert_eq!(job.status(), JobStatus::Running);
    }
}

#[test]
fn a_failure_beyond_the_strategy_ends_the_job_when_its_subtasks_are_gone() {
    let (mut job, mut out) = running(0);
    job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    assert_eq!(job.status(), JobStatus::Failing);
    let expected =
        [Command::RecordFailure { attempt: attempt(0), restarts: false }, Command::CancelSubtasks(attempt(0))];
    assert_eq!(std::mem::take(&mut out), expected);
    job.subtasks_canceled(attempt(0), 20, &mut out);
    assert_eq!(std::mem::take(&mut out), [Command::RecordTerminal(JobStatus::Failed)]);
    job.terminal_recorded(21, &mut out);
    assert_eq!(job.status(), JobStatus::Failed);
}

#[test]
fn errors_that_a_restart_does_not_cure_end_the_job_at_once() {
    for kind in [ErrorKind::FixInput, ErrorKind::GiveUp] {
        let (mut job, mut out) = running(9);
        job.failed(Scope::Regions(&[attempt(0)]), failure(kind), 0.5, 10, &mut out);
        assert_eq!(job.status(), JobStatus::Failing);
        let (mut job, mut out) = running(9);
        job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
        job.failed(Scope::Regions(&[attempt(0)]), failure(kind), 0.5, 11, &mut out);
        assert_eq!(job.status(), JobStatus::Failing, "also when a restart was planned already");
        job.subtasks_canceled(attempt(0), 12, &mut out);
        assert_eq!(out.last(), Some(&Command::RecordTerminal(JobStatus::Failed)));
    }
}

#[test]
fn events_of_old_deployments_are_answered_and_not_obeyed() {
    let (mut job, mut out) = running(9);
    job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    job.subtasks_canceled(attempt(0), 20, &mut out);
    job.restart_due(110, &mut out);
    out.clear();
    for stale in [attempt(0), attempt(2)] {
        assert_eq!(job.failed(Scope::Regions(&[stale]), failure(ErrorKind::GiveUp), 0.5, 120, &mut out), Reply::Stale);
        assert_eq!(job.deployed(stale, 120), Reply::Stale);
        assert_eq!(job.subtasks_canceled(stale, 120, &mut out), Reply::Stale);
        assert_eq!(job.all_finished(stale, 120, &mut out), Reply::Stale);
    }
    assert_eq!((out, job.status()), (vec![], JobStatus::Restarting));
}

#[test]
fn a_cancelled_job_waits_for_its_subtasks_and_does_not_restart() {
    let (mut job, mut out) = running(9);
    job.cancel_requested(10, &mut out);
    assert_eq!(std::mem::take(&mut out), [Command::CancelSubtasks(attempt(0))]);
    job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 11, &mut out);
    assert_eq!((job.status(), out.len()), (JobStatus::Cancelling, 0));
    job.subtasks_canceled(attempt(0), 12, &mut out);
    job.terminal_recorded(13, &mut out);
    assert_eq!(out, [Command::RecordTerminal(JobStatus::Canceled), Command::ReachedTerminal(JobStatus::Canceled)]);
}

#[test]
fn a_job_between_two_deployments_is_cancelled_at_once() {
    let (mut job, mut out) = running(9);
    job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    job.subtasks_canceled(attempt(0), 11, &mut out);
    out.clear();
    job.cancel_requested(12, &mut out);
    assert_eq!(out, [Command::RecordTerminal(JobStatus::Canceled)]);
    assert_eq!(job.restart_due(110, &mut out), Reply::Ignored);
}

#[test]
fn a_stop_interrupted_by_a_failure_is_told_and_the_job_goes_on() {
    let (mut job, mut out) = running(9);
    job.stop_savepoint_done();
    job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    assert!(out.contains(&Command::StopInterrupted));
    assert_eq!(job.status(), JobStatus::Restarting);
}

#[test]
fn a_deposed_leader_suspends_the_job_without_recording_an_end() {
    let (mut job, mut out) = running(9);
    job.leadership_lost(10, &mut out);
    job.subtasks_canceled(attempt(0), 11, &mut out);
    assert_eq!(out, [Command::CancelSubtasks(attempt(0)), Command::ReachedTerminal(JobStatus::Suspended)]);
    assert!(!job.status().is_globally_terminal());
}

#[test]
fn the_exception_history_is_bounded_and_groups_what_follows_a_root_cause() {
    let (mut job, mut out) = running(99);
    for number in 0..18 {
        let now = i64::from(number) * 1_000;
        job.failed(Scope::Regions(&[attempt(number)]), failure(ErrorKind::Retry), 0.5, now, &mut out);
        job.failed(Scope::Regions(&[attempt(number)]), failure(ErrorKind::Retry), 0.5, now + 1, &mut out);
        job.subtasks_canceled(attempt(number), now + 2, &mut out);
        job.restart_due(now + 100, &mut out);
    }
    let entries: Vec<_> = job.exceptions().entries().collect();
    assert_eq!((entries.len(), job.exceptions().is_truncated()), (16, true));
    assert_eq!((entries[0].timestamp_ms, entries[0].concurrent.len()), (17_000, 1));
    assert_eq!(entries[0].subtask_name.as_deref(), Some("map (1/2)"));
    assert_eq!(entries[0].attempt, "3.17");
}

/// A job of three regions that run as attempts 0 to 2 and restart after 100 ms.
fn three_regions() -> (Job, Vec<Command>) {
    let options = Options { restart: RestartOptions::FixedDelay { attempts: 9, delay_ms: 100 }, ..Options::default() };
    let mut job = Job::new(Epoch(3), &regions(0..3), options, 1);
    let mut out = Vec::new();
    job.submitted(2, &mut out);
    assert_eq!(std::mem::take(&mut out), [deploy(&[(0, 0), (1, 1), (2, 2)])]);
    for number in 0..3 {
        assert_eq!(job.status(), JobStatus::Created);
        job.deployed(attempt(number), 3);
    }
    assert_eq!(job.status(), JobStatus::Running);
    (job, out)
}

#[test]
fn only_the_region_that_failed_is_deployed_again() {
    let (mut job, mut out) = three_regions();
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    let expected = [
        Command::RecordFailure { attempt: attempt(1), restarts: true },
        Command::CancelSubtasks(attempt(1)),
        Command::ScheduleRestart { at_ms: 110 },
    ];
    assert_eq!(std::mem::take(&mut out), expected);
    assert!(job.goes_on() && job.is_wanted(attempt(0)) && job.is_wanted(attempt(2)));
    assert_eq!(job.status(), JobStatus::Restarting);
    job.subtasks_canceled(attempt(1), 20, &mut out);
    job.restart_due(110, &mut out);
    assert_eq!(std::mem::take(&mut out), [deploy(&[(1, 3)])]);
    job.deployed(attempt(3), 120);
    assert_eq!((job.status(), job.restarts()), (JobStatus::Running, 1));
    let before = [0, 1, 2].map(|region| job.deployments_before(RegionId(region)));
    assert_eq!(before, [0, 1, 0]);
}

#[test]
fn a_restart_that_is_due_does_not_wait_again_when_the_clock_goes_back() {
    let (mut job, mut out) = three_regions();
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    job.restart_due(110, &mut out);
    out.clear();
    job.subtasks_canceled(attempt(1), 90, &mut out);
    assert_eq!(out, [deploy(&[(1, 3)])]);
}

#[test]
fn regions_that_fail_by_one_cause_count_as_one_failure_and_others_may_fail_meanwhile() {
    let (mut job, mut out) = three_regions();
    job.failed(Scope::Regions(&[attempt(0), attempt(2)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    let failures = out.iter().filter(|command| matches!(command, Command::RecordFailure { .. })).count();
    assert_eq!((failures, job.exceptions().entries().count()), (1, 1));
    job.subtasks_canceled(attempt(0), 11, &mut out);
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 50, &mut out);
    job.subtasks_canceled(attempt(1), 51, &mut out);
    job.subtasks_canceled(attempt(2), 52, &mut out);
    out.clear();
    job.restart_due(110, &mut out);
    job.restart_due(150, &mut out);
    assert_eq!(out, [deploy(&[(0, 3), (2, 4)]), deploy(&[(1, 5)])]);
}

#[test]
fn what_concerns_the_job_restarts_all_regions_together() {
    let (mut job, mut out) = three_regions();
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    job.subtasks_canceled(attempt(1), 11, &mut out);
    job.failed(Scope::Job, failure(ErrorKind::Retry), 0.5, 20, &mut out);
    assert!(!job.goes_on());
    job.subtasks_canceled(attempt(0), 21, &mut out);
    out.clear();
    job.restart_due(110, &mut out);
    job.restart_due(120, &mut out);
    assert_eq!(out, [], "not while one is on its way out");
    job.subtasks_canceled(attempt(2), 130, &mut out);
    assert_eq!(out, [deploy(&[(0, 3), (1, 4), (2, 5)])]);
}

#[test]
fn a_region_that_has_to_go_back_further_takes_all_with_it() {
    let (mut job, mut out) = three_regions();
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    job.subtasks_canceled(attempt(1), 11, &mut out);
    job.restart_due(110, &mut out);
    out.clear();
    job.goes_back(111, &mut out);
    let cancel = [0, 3, 2].map(|number| Command::CancelSubtasks(attempt(number)));
    assert_eq!(std::mem::take(&mut out), cancel);
    for number in [0, 3, 2] {
        job.subtasks_canceled(attempt(number), 112, &mut out);
    }
    assert_eq!(out, [deploy(&[(0, 4), (1, 5), (2, 6)])]);
}

#[test]
fn a_job_finishes_when_all_regions_have_and_is_deployed_again_whole_as_another_graph() {
    let (mut job, mut out) = three_regions();
    job.all_finished(attempt(0), 10, &mut out);
    job.all_finished(attempt(2), 11, &mut out);
    assert_eq!((out.len(), job.status()), (0, JobStatus::Running));
    job.redeploy(&regions([3, 4]), 12, &mut out);
    assert_eq!(std::mem::take(&mut out), [Command::CancelSubtasks(attempt(1))]);
    job.subtasks_canceled(attempt(1), 13, &mut out);
    assert_eq!(std::mem::take(&mut out), [deploy(&[(3, 3), (4, 4)])], "of the new graph");
    assert_eq!(job.deployments_before(RegionId(4)), 1);
    job.all_finished(attempt(3), 14, &mut out);
    job.all_finished(attempt(4), 15, &mut out);
    assert_eq!(out, [Command::RecordTerminal(JobStatus::Finished)]);
}

#[test]
fn a_region_that_another_graph_has_as_well_goes_on_and_new_ones_wait_until_there_is_room() {
    let (mut job, mut out) = three_regions();
    assert_eq!(job.redeploy(&regions([0, 3, 4]), 10, &mut out), Reply::Accepted);
    assert_eq!(std::mem::take(&mut out), [1, 2].map(|number| Command::CancelSubtasks(attempt(number))));
    assert_eq!((job.status(), job.is_wanted(attempt(0))), (JobStatus::Restarting, true));
    assert_eq!(job.living(), [0, 1, 2].map(attempt).into(), "they may still act");
    job.subtasks_canceled(attempt(2), 11, &mut out);
    assert_eq!(out, []);
    job.subtasks_canceled(attempt(1), 12, &mut out);
    assert_eq!(std::mem::take(&mut out), [deploy(&[(3, 3), (4, 4)])]);
    job.deployed(attempt(3), 13);
    job.deployed(attempt(4), 14);
    assert_eq!((job.status(), job.restarts()), (JobStatus::Running, 1));
    assert_eq!([0, 3, 4].map(|region| job.deployments_before(RegionId(region))), [0, 1, 1]);
    assert_eq!(job.living(), [0, 3, 4].map(attempt).into());
}

#[test]
fn a_job_whose_regions_stay_the_same_goes_on() {
    let (mut job, mut out) = three_regions();
    assert_eq!(job.redeploy(&regions(0..3), 10, &mut out), Reply::Ignored);
    assert_eq!((out, job.status(), job.restarts()), (vec![], JobStatus::Running, 0));
}

#[test]
fn a_region_that_goes_on_may_fail_beside_others_that_make_room() {
    let (mut job, mut out) = three_regions();
    job.redeploy(&regions([0, 3]), 10, &mut out);
    job.subtasks_canceled(attempt(1), 11, &mut out);
    job.failed(Scope::Regions(&[attempt(0)]), failure(ErrorKind::Retry), 0.5, 12, &mut out);
    job.subtasks_canceled(attempt(0), 13, &mut out);
    out.clear();
    job.restart_due(112, &mut out);
    assert_eq!(std::mem::take(&mut out), [deploy(&[(0, 3)])], "nothing of it is in the way");
    job.failed(Scope::Regions(&[attempt(2)]), failure(ErrorKind::Retry), 0.5, 113, &mut out);
    assert_eq!(out, [], "what has to go anyway");
    job.subtasks_canceled(attempt(2), 114, &mut out);
    assert_eq!(out, [deploy(&[(3, 4)])]);
}

#[test]
fn what_takes_the_place_of_a_region_that_waits_for_its_restart_waits_as_long() {
    let (mut job, mut out) = three_regions();
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 10, &mut out);
    job.subtasks_canceled(attempt(1), 11, &mut out);
    job.redeploy(&regions([0, 2, 3]), 12, &mut out);
    out.clear();
    job.restart_due(109, &mut out);
    assert_eq!(out, []);
    job.restart_due(110, &mut out);
    assert_eq!(out, [deploy(&[(3, 3)])]);
}

#[test]
fn a_stop_that_is_interrupted_goes_on_as_the_graph_that_came_meanwhile() {
    let (mut job, mut out) = three_regions();
    assert_eq!(job.stop_savepoint_done(), Reply::Accepted);
    assert_eq!(job.redeploy(&regions([3]), 10, &mut out), Reply::Ignored);
    job.all_finished(attempt(0), 11, &mut out);
    assert_eq!(out, [], "it finishes");
    job.failed(Scope::Regions(&[attempt(1)]), failure(ErrorKind::Retry), 0.5, 12, &mut out);
    job.subtasks_canceled(attempt(1), 13, &mut out);
    job.subtasks_canceled(attempt(2), 14, &mut out);
    out.clear();
    job.restart_due(112, &mut out);
    assert_eq!(out, [deploy(&[(3, 3)])]);
}
