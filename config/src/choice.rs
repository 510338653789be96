//! Values that are one of a few words. Words are compared as in Flink: without regard to case, `-` and `_` being the same.

use crate::value::Value;

/// What a checkpoint guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Barriers are aligned.
    ExactlyOnce,
    /// Barriers pass; records may be processed twice after a failure.
    AtLeastOnce,
}

/// What becomes of the checkpoints of a job that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointRetention {
    /// Removed when the job is cancelled, kept when it fails.
    DeleteOnCancellation,
    /// Kept.
    RetainOnCancellation,
    /// Removed however the job ends.
    NoExternalizedCheckpoints,
}

/// Which sub-keys of `restart-strategy` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartStrategyKind {
    /// The first failure ends the job.
    None,
    /// A number of attempts with a constant delay.
    FixedDelay,
    /// Attempts as long as failures are rare enough.
    FailureRate,
    /// Attempts with a growing delay.
    ExponentialDelay,
}

/// What restarts when a subtask fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverKind {
    /// The pipelined region of the subtask.
    Region,
    /// The whole job.
    Full,
}

/// What a cluster survives the loss of its leader by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HighAvailability {
    /// It does not.
    None,
    /// A log in an object store or a shared folder.
    ObjectStore,
}

/// How jobs get along with slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// With fewer if there are too few.
    Adaptive,
    /// Only with all that they want.
    Default,
}

impl Value for Scheduler {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "adaptive or default";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "adaptive" => Some(Self::Adaptive),
            "default" => Some(Self::Default),
            _ => None,
        }
    }
}

/// Who says how many slots a job takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerMode {
    /// The job does.
    None,
    /// It takes what there is.
    Reactive,
}

impl Value for SchedulerMode {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "none or reactive";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "none" => Some(Self::None),
            "reactive" => Some(Self::Reactive),
            _ => None,
        }
    }
}

/// How subtasks are shared out to task managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalanceMode {
    /// One after the other is filled.
    MinResources,
    /// As many slots of each.
    Slots,
    /// As many subtasks on each.
    Tasks,
}

impl Value for LoadBalanceMode {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "SLOTS, TASKS, MIN_RESOURCES or NONE";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "slots" => Some(Self::Slots),
            "tasks" => Some(Self::Tasks),
            // Without a mode, task managers are taken in any order.
            "min-resources" | "none" => Some(Self::MinResources),
            _ => None,
        }
    }
}

impl Value for HighAvailability {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "NONE or object-store (ZooKeeper and Kubernetes are not needed, nor supported)";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "none" => Some(Self::None),
            "object-store" => Some(Self::ObjectStore),
            _ => None,
        }
    }
}

fn normal(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace('_', "-")
}

impl Value for CheckpointMode {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "EXACTLY_ONCE or AT_LEAST_ONCE";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "exactly-once" => Some(Self::ExactlyOnce),
            "at-least-once" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

impl Value for CheckpointRetention {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "DELETE_ON_CANCELLATION, RETAIN_ON_CANCELLATION or NO_EXTERNALIZED_CHECKPOINTS";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "delete-on-cancellation" => Some(Self::DeleteOnCancellation),
            "retain-on-cancellation" => Some(Self::RetainOnCancellation),
            "no-externalized-checkpoints" => Some(Self::NoExternalizedCheckpoints),
            _ => None,
        }
    }
}

impl Value for FailoverKind {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "region or full";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "region" => Some(Self::Region),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

impl Value for RestartStrategyKind {
    const TYPE: &'static str = "Enum";
    const FORM: &'static str = "none (also off, disable), fixed-delay, failure-rate or exponential-delay";

    fn parse(text: &str) -> Option<Self> {
        match normal(text).as_str() {
            "none" | "off" | "disable" => Some(Self::None),
            "fixed-delay" | "fixeddelay" => Some(Self::FixedDelay),
            "failure-rate" | "failurerate" => Some(Self::FailureRate),
            "exponential-delay" | "exponentialdelay" => Some(Self::ExponentialDelay),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_with_either_separator() {
        assert_eq!(CheckpointMode::parse("exactly-once"), Some(CheckpointMode::ExactlyOnce));
        assert_eq!(CheckpointMode::parse("AT_LEAST_ONCE"), Some(CheckpointMode::AtLeastOnce));
        assert_eq!(RestartStrategyKind::parse("Off"), Some(RestartStrategyKind::None));
        assert_eq!(RestartStrategyKind::parse("failure_rate"), Some(RestartStrategyKind::FailureRate));
        assert_eq!(CheckpointRetention::parse("keep"), None);
    }
}
