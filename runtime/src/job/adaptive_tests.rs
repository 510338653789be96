//! Jobs are made for other slots when they should be, and not before.

use super::*;
use crate::ids::VertexId;

const OPTIONS: Options = Options {
    resource_wait_ms: Some(10_000),
    submission_stabilization_ms: 1_000,
    executing_stabilization_ms: 2_000,
    cooldown_ms: 500,
    max_delay_ms: 300,
    max_checkpoint_failures: 2,
};

fn parallelism(subtasks: u32) -> Parallelism {
    Parallelism::from([(VertexId::from_name("v"), subtasks)])
}

/// A job that wants so many subtasks and needs some, with one slot for each.
struct Rig {
    scheduler: AdaptiveScheduler,
    needed: u32,
    wanted: u32,
    held: u32,
    now_ms: i64,
}

impl Rig {
    fn new(needed: u32, wanted: u32, options: Options) -> Self {
        let scheduler = AdaptiveScheduler::new(parallelism(wanted), options);
        Self { scheduler, needed, wanted, held: 0, now_ms: 0 }
    }

    /// One that runs with all that it wants.
    fn running(needed: u32, wanted: u32) -> Self {
        let mut rig = Self::new(needed, wanted, OPTIONS);
        assert_eq!(rig.slots(wanted), []);
        rig
    }

    fn changed(&mut self) -> Vec<Command> {
        let made = self.scheduler.made().values().copied().max().unwrap_or(0);
        let resources = Resources {
            allowed: (self.held >= self.needed).then(|| parallelism(self.held.min(self.wanted))),
            desired: self.held >= self.wanted,
            suffice: self.held >= made,
        };
        let mut out = Vec::new();
        self.scheduler.changed(resources, self.now_ms, &mut out);
        out
    }

    fn slots(&mut self, held: u32) -> Vec<Command> {
        self.held = held;
        self.changed()
    }

    fn wants(&mut self, wanted: u32) -> Vec<Command> {
        self.wanted = wanted;
        self.changed()
    }

    fn at(&mut self, now_ms: i64) -> Vec<Command> {
        self.now_ms = now_ms;
        let mut out = Vec::new();
        self.scheduler.wake(now_ms, &mut out);
        out
    }

    fn checkpoint(&mut self, number: u64, is_complete: bool) -> Vec<Command> {
        let mut out = Vec::new();
        self.scheduler.checkpointed(number, is_complete, self.now_ms, &mut out);
        out
    }
}

fn deploys(subtasks: u32) -> [Command; 1] {
    [Command::Deploy(parallelism(subtasks))]
}

#[test]
fn a_job_that_gets_all_its_slots_runs_as_it_was_made() {
    let mut rig = Rig::new(1, 4, OPTIONS);
    assert_eq!(rig.slots(0), [Command::WakeAt(10_000)]);
    rig.now_ms = 100;
    assert_eq!(rig.slots(4), []);
    assert_eq!(rig.at(10_000), []);
    assert_eq!(rig.scheduler.made(), &parallelism(4));
}

#[test]
fn a_job_with_too_few_slots_waits_for_more_and_then_makes_do_with_what_there_is() {
    let mut rig = Rig::new(1, 4, OPTIONS);
    rig.slots(0);
    rig.now_ms = 100;
    assert_eq!(rig.slots(2), [Command::WakeAt(1_100)]);
    rig.now_ms = 900;
    assert_eq!(rig.slots(3), [Command::WakeAt(1_100)], "more do not make it wait longer");
    assert_eq!(rig.at(1_100), [Command::Checkpoint(1), Command::WakeAt(1_400)]);
    assert_eq!((rig.checkpoint(1, false), rig.checkpoint(1, true)), (vec![Command::Checkpoint(2)], vec![]));
    assert_eq!(rig.checkpoint(2, false), deploys(3), "it does not run: there is no checkpoint to wait for");
    assert_eq!(rig.changed(), []);
}

#[test]
fn a_job_below_its_lower_bounds_waits_until_its_time_is_up_and_fails() {
    let mut rig = Rig::new(3, 4, OPTIONS);
    assert_eq!(rig.slots(0), [Command::WakeAt(10_000)]);
    rig.now_ms = 5_000;
    assert_eq!(rig.slots(2), [Command::WakeAt(10_000)]);
    assert_eq!(rig.at(9_999), [Command::WakeAt(10_000)]);
    assert_eq!(rig.at(10_000), [Command::Fail, Command::WakeAt(20_000)], "it may not hear of it");
    assert_eq!(rig.at(19_999), [Command::WakeAt(20_000)]);
    let mut patient = Rig::new(3, 4, Options { resource_wait_ms: None, ..OPTIONS });
    assert_eq!((patient.slots(2), patient.at(i64::MAX)), (vec![], vec![]));
}

#[test]
fn slots_that_suffice_late_are_taken_when_the_time_to_wait_is_up() {
    let mut rig = Rig::new(2, 4, OPTIONS);
    rig.slots(0);
    rig.now_ms = 9_500;
    assert_eq!(rig.slots(2), [Command::WakeAt(10_000)], "not a second from now");
    assert_eq!(rig.at(10_000)[0], Command::Checkpoint(1));
}

#[test]
fn slots_that_are_lost_and_come_back_in_time_change_nothing() {
    let mut rig = Rig::running(1, 4);
    rig.now_ms = 1_000;
    assert_eq!(rig.slots(2), [Command::WakeAt(2_000)]);
    rig.now_ms = 1_500;
    assert_eq!(rig.slots(4), []);
    assert_eq!(rig.at(2_000), []);
    rig.now_ms = 3_000;
    assert_eq!(rig.slots(2), [Command::WakeAt(4_000)], "a new loss is waited for anew");
}

#[test]
fn a_job_with_less_than_it_wants_is_scaled_up_at_once_when_all_is_there_and_else_after_a_while() {
    let mut rig = Rig::running(1, 4);
    rig.slots(2);
    rig.at(1_000);
    assert_eq!(rig.at(1_300), deploys(2), "the checkpoint takes too long");
    rig.now_ms = 5_000;
    assert_eq!(rig.slots(3), [Command::WakeAt(7_000)]);
    rig.now_ms = 6_000;
    assert_eq!(rig.slots(4), [Command::Checkpoint(2), Command::WakeAt(6_300)]);
    assert_eq!(rig.checkpoint(1, true), [], "the one before");
    assert_eq!(rig.checkpoint(2, true), deploys(4));
    rig.slots(2);
    rig.at(9_000);
    rig.at(9_400);
    rig.now_ms = 20_000;
    assert_eq!(rig.slots(3), [Command::WakeAt(22_000)]);
    assert_eq!(rig.at(22_000)[0], Command::Checkpoint(4));
    assert_eq!(rig.checkpoint(4, true), deploys(3));
}

#[test]
fn a_job_that_runs_is_not_changed_again_before_it_has_cooled_down() {
    let mut rig = Rig::running(1, 4);
    rig.now_ms = 1_000;
    rig.wants(3);
    assert_eq!(rig.checkpoint(1, true), deploys(3));
    rig.now_ms = 1_200;
    assert_eq!(rig.wants(2), [Command::WakeAt(1_500)]);
    assert_eq!(rig.wants(1), [Command::WakeAt(1_500)]);
    assert_eq!(rig.at(1_500)[0], Command::Checkpoint(2));
    assert_eq!(rig.checkpoint(2, true), deploys(1));
    // One that has lost its slots does not run, so there is nothing to cool down.
    rig.now_ms = 1_600;
    assert_eq!(rig.wants(4)[0], Command::WakeAt(2_000));
    assert_eq!(rig.slots(0), [Command::WakeAt(11_600)]);
    assert_eq!(rig.slots(4), [Command::WakeAt(2_000)], "it has its slots again");
}

#[test]
fn what_a_job_is_made_for_is_what_there_is_when_its_checkpoint_is_complete() {
    let mut rig = Rig::running(1, 4);
    rig.slots(2);
    rig.at(1_000);
    assert_eq!(rig.slots(3), [], "the checkpoint is under way");
    assert_eq!(rig.checkpoint(1, true), deploys(3));
    let mut rig = Rig::running(1, 4);
    rig.slots(2);
    rig.at(1_000);
    assert_eq!(rig.slots(4), [], "all are back");
    assert_eq!(rig.checkpoint(1, true), []);
}

#[test]
fn without_a_delay_or_failures_that_are_waited_for_no_checkpoint_is_asked_for() {
    for options in [Options { max_delay_ms: 0, ..OPTIONS }, Options { max_checkpoint_failures: 0, ..OPTIONS }] {
        let mut rig = Rig::new(1, 4, options);
        rig.slots(4);
        rig.now_ms = 1_000;
        assert_eq!(rig.wants(2), deploys(2));
    }
}

#[test]
fn whatever_comes_and_goes_a_job_ends_up_as_its_slots_allow() {
    let mut random = 5u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    for _ in 0..300 {
        let mut rig = Rig::new(2, 4, Options { resource_wait_ms: None, ..OPTIONS });
        rig.slots(0);
        for _ in 0..20 {
            rig.now_ms += below(1_500) as i64;
            let commands = match below(3) {
                0 => rig.slots(below(6) as u32),
                1 => rig.wants(2 + below(4) as u32),
                _ => rig.at(rig.now_ms),
            };
            for command in commands {
                match command {
                    Command::Checkpoint(number) if below(2) == 0 => drop(rig.checkpoint(number, below(2) == 0)),
                    Command::Deploy(made) => {
                        let subtasks = made[&VertexId::from_name("v")];
                        assert!(subtasks <= rig.held && subtasks <= rig.wanted, "{subtasks} of {}", rig.held);
                        drop(rig.changed());
                    }
                    Command::Checkpoint(_) | Command::WakeAt(_) => {}
                    Command::Fail => panic!("it waits for ever"),
                }
            }
        }
        // Nothing more changes: whoever obeys the commands gets there.
        let mut queue = rig.slots(3);
        while let Some(command) = queue.pop() {
            match command {
                Command::WakeAt(at_ms) => queue.extend(rig.at(at_ms.max(rig.now_ms))),
                Command::Checkpoint(number) => queue.extend(rig.checkpoint(number, true)),
                Command::Deploy(_) => queue.extend(rig.changed()),
                Command::Fail => panic!("it waits for ever"),
            }
        }
        rig.at(rig.now_ms + 100_000);
        assert_eq!(rig.scheduler.made(), &parallelism(3.min(rig.wanted)));
    }
}
