//! The main job is killed with SIGKILL at seeded moments and at named failpoints, resumed at the same or another
//! parallelism, and must end with exactly the output that the checker recomputes from input and rules. The short form
//! runs with the other tests; the whole is `cargo xtask torture`.

mod support;

use std::time::Duration;

use support::random::Random;
use support::workload::{Ending, Run, Workload};

/// Records per second of the whole job.
const RATE: u64 = 2_000;

/// Places between two durable steps where the process ends itself, as a power switch would.
const FAILPOINTS: [&str; 4] = ["segment-written", "manifest-created", "before-commit", "between-commits"];

/// What happened to one job.
#[derive(Default)]
struct Tally {
    /// Kills by signal.
    kills: usize,
    /// Of these: after the first completed checkpoint, and before the last record.
    kills_in_the_middle: usize,
    /// Stops at a failpoint.
    failpoints: usize,
    /// Starts over the output of an unfinished run.
    resumes: usize,
    /// Of these: at another parallelism than the run before.
    resumes_rescaled: usize,
    /// Time during which the job ran, over all its runs.
    running: Duration,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.kills_in_the_middle += other.kills_in_the_middle;
        self.failpoints += other.failpoints;
        self.resumes += other.resumes;
        self.resumes_rescaled += other.resumes_rescaled;
        self.running += other.running;
    }
}

/// How a job is tormented.
struct Torment {
    name: &'static str,
    seed: u64,
    /// Transactions; at [`RATE`] they take this many seconds or longer.
    seconds: u64,
    /// Kills in a row, each after a time between these, in milliseconds from the moment the job runs.
    kills: usize,
    kill_after_ms: (u64, u64),
    /// Failpoints, each in a run of its own, after the kills.
    failpoints: &'static [&'static str],
}

/// Runs one job to its end through all kills, and checks its output.
fn torment(plan: &Torment) -> Tally {
    let events = plan.seconds * RATE;
    let workload = Workload::generate(plan.name, events, plan.seed);
    let mut random = Random::new(plan.seed);
    let mut tally = Tally::default();
    let mut parallelism = 2;
    let mut checkpointed = false;
    let endings = std::iter::repeat_n(None, plan.kills).chain(plan.failpoints.iter().map(Some));
    for (number, failpoint) in endings.enumerate() {
        if number > 0 {
            parallelism = resume_at(&mut tally, parallelism, &mut random);
        }
        let ending = match failpoint {
            None => Ending::Kill { after: Duration::from_millis(random.between(plan.kill_after_ms)) },
            Some(name) => Ending::Failpoint { name, hit: random.between((1, 3)) },
        };
        let run = workload.run(parallelism, RATE, &ending);
        tally.running += run.running;
        assert_continued(plan, &run, checkpointed);
        checkpointed |= run.completed_checkpoints > 0;
        judge(&mut tally, plan, &run, &ending, checkpointed, events);
    }
    parallelism = resume_at(&mut tally, parallelism, &mut random);
    let last = workload.run(parallelism, RATE, &Ending::Finish);
    tally.running += last.running;
    assert_continued(plan, &last, checkpointed);
    assert!(last.success, "{}: the last run failed:\n{}", plan.name, last.log);
    workload.check();
    println!("{}: equal after {} kills and {} failpoints", plan.name, tally.kills, tally.failpoints);
    tally
}

/// Once a checkpoint is completed, no later run may start anew: its output would be right, but nothing shown.
fn assert_continued(plan: &Torment, run: &Run, checkpointed: bool) {
    let anew = checkpointed && run.restored == Some(false);
    assert!(!anew, "{}: a run has not continued from the completed checkpoint:\n{}", plan.name, run.log);
}

/// The parallelism of the next run: every second one is another.
fn resume_at(tally: &mut Tally, before: u64, random: &mut Random) -> u64 {
    tally.resumes += 1;
    if tally.resumes.is_multiple_of(2) {
        return before;
    }
    tally.resumes_rescaled += 1;
    let other = random.between((1, 3));
    if other >= before { other + 1 } else { other }
}

/// A run must have ended as it was meant to; counts it.
fn judge(tally: &mut Tally, plan: &Torment, run: &Run, ending: &Ending, checkpointed: bool, events: u64) {
    assert!(!run.success, "{}: the job ended before {ending:?}:\n{}", plan.name, run.log);
    // Records read by all runs together, were none read twice: below the number of lines, the last one cannot have
    // been read. A twentieth for what the limit lets through at once.
    let read_at_most = tally.running.as_secs_f64() * RATE as f64 * 1.05;
    let in_the_middle = checkpointed && read_at_most < events as f64;
    let place = if in_the_middle { "in the middle" } else { "at the edge" };
    println!(
        "{}: {ending:?} {place}, {} checkpoints completed, {:.1} s running so far",
        plan.name,
        run.completed_checkpoints,
        tally.running.as_secs_f64()
    );
    match ending {
        Ending::Kill { .. } => {
            assert_eq!(run.signal, Some(9), "{}: not ended by the kill:\n{}", plan.name, run.log);
            tally.kills += 1;
            tally.kills_in_the_middle += usize::from(in_the_middle);
        }
        Ending::Failpoint { .. } => {
            assert_eq!(run.signal, Some(6), "{}: {ending:?} was not reached:\n{}", plan.name, run.log);
            tally.failpoints += 1;
        }
        Ending::Finish => panic!("{}: a run to the end has not ended well:\n{}", plan.name, run.log),
    }
}

#[test]
fn main_job_survives_two_kills_and_a_failpoint() {
    let tally = torment(&Torment {
        name: "short",
        seed: 1,
        seconds: 5,
        kills: 2,
        kill_after_ms: (700, 1_300),
        failpoints: &FAILPOINTS[2..3],
    });
    assert_eq!((tally.kills, tally.failpoints), (2, 1));
    assert!(tally.kills_in_the_middle >= 1);
    assert_eq!((tally.resumes, tally.resumes_rescaled), (3, 2));
}

#[test]
#[ignore = "takes minutes: cargo xtask torture"]
fn main_job_survives_twenty_kills_and_four_failpoints() {
    let mut total = Tally::default();
    for (index, name) in ["first", "second", "third", "fourth"].into_iter().enumerate() {
        let plan = Torment {
            name,
            seed: 100 + index as u64,
            seconds: 32,
            kills: 5,
            kill_after_ms: (100, 5_000),
            failpoints: &FAILPOINTS[index..=index],
        };
        let tally = torment(&plan);
        assert_eq!(tally.kills, 5, "{name}: five kills in a row");
        assert!(tally.running >= Duration::from_secs(30), "{name}: the job was to be slowed to at least 30 s");
        total.add(&tally);
    }
    println!(
        "{} kills, {} of them between the first completed checkpoint and the last record; {} failpoints; {} resumes, {} rescaled",
        total.kills, total.kills_in_the_middle, total.failpoints, total.resumes, total.resumes_rescaled
    );
    assert_eq!((total.kills, total.failpoints), (20, 4));
    assert!(total.kills_in_the_middle >= 15, "{} kills in the middle", total.kills_in_the_middle);
    assert!(total.resumes_rescaled * 2 >= total.resumes);
}
