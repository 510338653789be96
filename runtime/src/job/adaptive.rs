//! When a job is made for other slots than it was made for: it waits for those that it wants, makes do with fewer after a
//! while, and is scaled up when others come; Flink's adaptive scheduler. Fed by the dispatcher, which knows what the slots of a
//! job are good for. Time comes in with every event.
//!
//! Two things can be: the slots do not suffice for what the job was made for, so it waits (`submission.*` in Flink's keys); or
//! it runs and could run otherwise (`executing.*`).

use super::requirements::Parallelism;

/// How long what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A job without the slots that it was made for: how long it waits for them before it makes do with fewer, or fails when
    /// it cannot; more than 0. `None` waits for ever.
    pub resource_wait_ms: Option<i64>,
    /// A job without the slots that it was made for: how long it waits for more once it could make do with fewer.
    pub submission_stabilization_ms: i64,
    /// A job that runs: how long it waits for more slots once it could get some of those that it wants.
    pub executing_stabilization_ms: i64,
    /// A job that runs is not changed sooner after it was changed.
    pub cooldown_ms: i64,
    /// How long a job goes on at most until the checkpoint is complete from which it goes on otherwise.
    pub max_delay_ms: i64,
    /// How many checkpoints in a row may fail before it is changed without one.
    pub max_checkpoint_failures: u32,
}

/// What the slots of a job are good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The parallelism that they allow; none when they are too few for the job.
    pub allowed: Option<Parallelism>,
    /// Whether they are all that the job wants, and will hardly become more again.
    pub desired: bool,
    /// Whether they suffice for what the job was made for.
    pub suffice: bool,
}

/// What the dispatcher must do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Call [`AdaptiveScheduler::wake`] at this time.
    WakeAt(i64),
    /// Have the job make a checkpoint, and tell [`AdaptiveScheduler::checkpointed`] with this number what became of it.
    Checkpoint(u64),
    /// Run the job so from now on, from its newest checkpoint.
    Deploy(Parallelism),
    /// The job has waited for too long and cannot run with what there is: it fails.
    Fail,
}

/// Where the job is on its way to another parallelism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is as its slots allow, or there is nothing that it could be.
    Settled,
    /// It could be otherwise since that time.
    Stabilizing { since_ms: i64 },
    /// It waits for its checkpoint, at most until then.
    Triggering { until_ms: i64, failures: u32 },
}

/// Decides for one job.
#[derive(Clone, Debug)]
pub struct AdaptiveScheduler {
    options: Options,
    made: Parallelism,
    resources: Resources,
    phase: Phase,
    /// Since when the slots do not suffice for what it was made for.
    waits_since_ms: Option<i64>,
    /// When it was changed last.
    changed_ms: Option<i64>,
    /// The number of the newest checkpoint that was asked for.
    checkpoint: u64,
}

impl AdaptiveScheduler {
    /// A job that was made so, and has no slots yet.
    #[must_use]
    pub fn new(made: Parallelism, options: Options) -> Self {
        Self {
            options,
            made,
            resources: Resources::default(),
            phase: Phase::Settled,
            waits_since_ms: None,
            changed_ms: None,
            checkpoint: 0,
        }
    }

    /// What the job was made for.
    #[must_use]
    pub fn made(&self) -> &Parallelism {
        &self.made
    }

    /// The slots of the job, or what it wants, may have changed.
    pub fn changed(&mut self, resources: Resources, now_ms: i64, out: &mut Vec<Command>) {
        let waited = self.waits_since_ms.is_some();
        self.waits_since_ms = if resources.suffice { None } else { Some(self.waits_since_ms.unwrap_or(now_ms)) };
        self.resources = resources;
        self.phase = match (self.target().is_some(), self.phase) {
            (false, _) => Phase::Settled,
            (true, Phase::Settled) => Phase::Stabilizing { since_ms: now_ms },
            // What counts while it waits is another time than what counts while it runs.
            (true, Phase::Stabilizing { .. }) if waited != self.waits_since_ms.is_some() => {
                Phase::Stabilizing { since_ms: now_ms }
            }
            (true, phase @ (Phase::Stabilizing { .. } | Phase::Triggering { .. })) => phase,
        };
        self.go_on(now_ms, out);
    }

    /// A time of [`Command::WakeAt`] has come. Too early a call does nothing.
    pub fn wake(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        self.go_on(now_ms, out);
    }

    /// What became of a checkpoint.
    pub fn checkpointed(&mut self, number: u64, is_complete: bool, now_ms: i64, out: &mut Vec<Command>) {
        let Phase::Triggering { until_ms, failures } = self.phase else { return };
        if number != self.checkpoint {
            return;
        }
        let failures = failures + u32::from(!is_complete);
        if is_complete || failures >= self.options.max_checkpoint_failures {
            self.deploy(now_ms, out);
            return;
        }
        self.phase = Phase::Triggering { until_ms, failures };
        self.checkpoint += 1;
        out.push(Command::Checkpoint(self.checkpoint));
    }

    /// What the job should be made for; none while it is, or while there is nothing that it could be.
    fn target(&self) -> Option<&Parallelism> {
        self.resources.allowed.as_ref().filter(|allowed| **allowed != self.made)
    }

    fn go_on(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        match self.phase {
            Phase::Settled => self.wait_on(now_ms, out),
            Phase::Stabilizing { since_ms } => {
                let due_ms = self.due_ms(since_ms);
                if due_ms > now_ms {
                    out.push(Command::WakeAt(due_ms));
                    return;
                }
                let until_ms = now_ms.saturating_add(self.options.max_delay_ms);
                self.phase = Phase::Triggering { until_ms, failures: 0 };
                if until_ms <= now_ms || self.options.max_checkpoint_failures == 0 {
                    self.deploy(now_ms, out);
                    return;
                }
                self.checkpoint += 1;
                out.extend([Command::Checkpoint(self.checkpoint), Command::WakeAt(until_ms)]);
            }
            Phase::Triggering { until_ms, .. } if until_ms <= now_ms => self.deploy(now_ms, out),
            Phase::Triggering { .. } => {}
        }
    }

    /// When a change that was possible at that time is due.
    fn due_ms(&self, since_ms: i64) -> i64 {
        let stable_ms = |stabilization_ms: i64| {
            if self.resources.desired { since_ms } else { since_ms.saturating_add(stabilization_ms) }
        };
        match self.waits_since_ms {
            Some(waits_since_ms) => {
                let stable_ms = stable_ms(self.options.submission_stabilization_ms);
                let waited_ms = self.options.resource_wait_ms.map(|wait_ms| waits_since_ms.saturating_add(wait_ms));
                waited_ms.map_or(stable_ms, |waited_ms| waited_ms.min(stable_ms))
            }
            None => {
                let cool_ms = self.changed_ms.map(|changed_ms| changed_ms.saturating_add(self.options.cooldown_ms));
                stable_ms(self.options.executing_stabilization_ms).max(cool_ms.unwrap_or(i64::MIN))
            }
        }
    }

    /// A job that cannot run at all fails when it has waited for too long. One that is about to restart does not hear of it,
    /// so it is told again.
    fn wait_on(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        let (Some(waits_since_ms), Some(wait_ms)) = (self.waits_since_ms, self.options.resource_wait_ms) else {
            return;
        };
        let mut until_ms = waits_since_ms.saturating_add(wait_ms);
        if until_ms <= now_ms {
            out.push(Command::Fail);
            self.waits_since_ms = Some(now_ms);
            until_ms = now_ms.saturating_add(wait_ms);
        }
        out.push(Command::WakeAt(until_ms));
    }

    fn deploy(&mut self, now_ms: i64, out: &mut Vec<Command>) {
        let target = self.target().cloned().expect("in every phase but the first there is one");
        self.phase = Phase::Settled;
        self.made = target.clone();
        self.waits_since_ms = None;
        self.changed_ms = Some(now_ms);
        self.resources.suffice = true;
        out.push(Command::Deploy(target));
    }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
mod tests;
