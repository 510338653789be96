//! Restart strategies with Flink's names, defaults and arithmetic (`restart-strategy.*`; exponential delay after
//! FLIP-364). Used by the job machine; randomness comes as an argument.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Which strategy, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum RestartOptions {
    /// `none`, `off`, `disable`: the first failure is the last.
    None,
    /// `fixed-delay`.
    FixedDelay {
        /// Restarts in the life of the job.
        attempts: u32,
        /// Milliseconds from a failure to the restart.
        delay_ms: i64,
    },
    /// `failure-rate`.
    FailureRate {
        /// Failures allowed within the interval; one more ends the job.
        max_failures_per_interval: u32,
        /// Milliseconds.
        interval_ms: i64,
        /// Milliseconds from a failure to the restart.
        delay_ms: i64,
    },
    /// `exponential-delay`.
    ExponentialDelay {
        /// Restarts at once, before the delays begin.
        immediate_restarts: u32,
        /// Milliseconds before the next restart, and at least before any later one.
        initial_ms: i64,
        /// Milliseconds at most.
        max_ms: i64,
        /// Growth from restart to restart, above 1.
        multiplier: f64,
        /// Part of the delay added or taken off at random, 0 to 1.
        jitter_factor: f64,
        /// Milliseconds without a failure after a restart, after which delay and count start anew.
        reset_threshold_ms: i64,
        /// Restarts before that; `None` does not limit them.
        attempts_before_reset: Option<u32>,
    },
}

impl RestartOptions {
    /// Flink's fixed delay: one restart after a second.
    #[must_use]
    pub fn fixed_delay() -> Self {
        Self::FixedDelay { attempts: 1, delay_ms: 1_000 }
    }

    /// Flink's failure rate: one failure a minute, restarts after a second.
    #[must_use]
    pub fn failure_rate() -> Self {
        Self::FailureRate { max_failures_per_interval: 1, interval_ms: 60_000, delay_ms: 1_000 }
    }

    /// Flink's exponential delay, 1 s to 1 min, half as long again each time; but the first restart is at once, since most
    /// failures are the loss of a node that others stand in for, and a quiet minute is enough for a reset.
    #[must_use]
    pub fn exponential_delay() -> Self {
        Self::ExponentialDelay {
            immediate_restarts: 1,
            initial_ms: 1_000,
            max_ms: 60_000,
            multiplier: 1.5,
            jitter_factor: 0.1,
            reset_threshold_ms: 60_000,
            attempts_before_reset: None,
        }
    }

    /// What a job gets that says nothing: without checkpoints a restart would begin from nothing.
    #[must_use]
    pub fn default_for(checkpointing: bool) -> Self {
        if checkpointing { Self::exponential_delay() } else { Self::None }
    }

    /// Whether the settings make sense.
    ///
    /// # Errors
    /// Names the setting and its bounds.
    pub fn validate(&self) -> Result<(), String> {
        let require = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("restart-strategy.{what}")) };
        match self {
            Self::None => Ok(()),
            Self::FixedDelay { delay_ms, .. } => require(*delay_ms >= 0, "fixed-delay.delay must not be negative"),
            Self::FailureRate { max_failures_per_interval, interval_ms, delay_ms } => {
                let failures = "failure-rate.max-failures-per-interval must be at least 1";
                require(*max_failures_per_interval >= 1, failures)?;
                require(*interval_ms >= 1, "failure-rate.failure-rate-interval must be at least 1 ms")?;
                require(*delay_ms >= 0, "failure-rate.delay must not be negative")
            }
            Self::ExponentialDelay { initial_ms, max_ms, multiplier, jitter_factor, reset_threshold_ms, .. } => {
                require(*initial_ms >= 1, "exponential-delay.initial-backoff must be at least 1 ms")?;
                require(initial_ms <= max_ms, "exponential-delay.max-backoff must not be below the initial backoff")?;
                require(*multiplier > 1.0, "exponential-delay.backoff-multiplier must be above 1")?;
                require((0.0..=1.0).contains(jitter_factor), "exponential-delay.jitter-factor must be within 0 and 1")?;
                require(*reset_threshold_ms >= 1, "exponential-delay.reset-backoff-threshold must be at least 1 ms")
            }
        }
    }
}

/// A strategy with what it remembers of the failures so far.
#[derive(Clone, Debug)]
pub struct RestartStrategy {
    options: RestartOptions,
    /// Restarts so far, or since the reset.
    attempts: u32,
    /// Failure rate: times of the last failures, at most one more than allowed.
    failures: VecDeque<i64>,
    /// Exponential delay: when the last failure's restart is due.
    restart_ms: Option<i64>,
}

impl RestartStrategy {
    /// A strategy that has seen no failure.
    #[must_use]
    pub fn new(options: RestartOptions) -> Self {
        Self { options, attempts: 0, failures: VecDeque::new(), restart_ms: None }
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &RestartOptions {
        &self.options
    }

    /// A failure. `jitter` is a random number in 0..1. Answers whether it is a failure of its own: with exponential
    /// delay, one that comes before the last one's restart is part of that.
    pub fn notify_failure(&mut self, now_ms: i64, jitter: f64) -> bool {
        match self.options {
            RestartOptions::None => {}
            RestartOptions::FixedDelay { .. } => self.attempts = self.attempts.saturating_add(1),
            RestartOptions::FailureRate { max_failures_per_interval, .. } => {
                if self.failures.len() > max_failures_per_interval as usize {
                    self.failures.pop_front();
                }
                self.failures.push_back(now_ms);
            }
            RestartOptions::ExponentialDelay { immediate_restarts, reset_threshold_ms, .. } => {
                if self.restart_ms.is_some_and(|restart| now_ms <= restart) {
                    return false;
                }
                if self.restart_ms.is_none_or(|restart| now_ms - restart >= reset_threshold_ms) {
                    self.attempts = 0;
                }
                let delayed = self.attempts.checked_sub(immediate_restarts);
                let delay = delayed.map_or(0, |restarts| self.exponential(restarts, jitter));
                self.restart_ms = Some(now_ms.saturating_add(delay));
                self.attempts = self.attempts.saturating_add(1);
            }
        }
        true
    }

    /// Milliseconds before the restart that follows so many delayed ones.
    fn exponential(&self, restarts: u32, jitter: f64) -> i64 {
        let RestartOptions::ExponentialDelay { initial_ms, max_ms, multiplier, jitter_factor, .. } = self.options
        else {
            return 0;
        };
        // Conversions from f64 saturate, so that a power beyond i64 ends at the maximum.
        let delay = (initial_ms as f64 * multiplier.powf(f64::from(restarts))) as i64;
        let spread = (delay as f64 * jitter_factor) as i64;
        let steps = (spread as f64 * 2.0 + 1.0) * jitter.clamp(0.0, 1.0);
        let offset = (steps as i64).saturating_sub(spread).min(spread);
        delay.saturating_add(offset).min(max_ms).max(initial_ms)
    }

    /// Whether the job may be restarted after the failures notified so far.
    #[must_use]
    pub fn can_restart(&self, now_ms: i64) -> bool {
        match self.options {
            RestartOptions::None => false,
            RestartOptions::FixedDelay { attempts, .. } => self.attempts <= attempts,
            RestartOptions::FailureRate { max_failures_per_interval, interval_ms, .. } => {
                let full = self.failures.len() > max_failures_per_interval as usize;
                !full || self.failures.front().is_none_or(|earliest| now_ms - earliest > interval_ms)
            }
            RestartOptions::ExponentialDelay { attempts_before_reset, .. } => {
                attempts_before_reset.is_none_or(|most| self.attempts <= most)
            }
        }
    }

    /// Milliseconds from now to the restart that the last failure calls for.
    #[must_use]
    pub fn delay_ms(&self, now_ms: i64) -> i64 {
        match self.options {
            RestartOptions::None => 0,
            RestartOptions::FixedDelay { delay_ms, .. } | RestartOptions::FailureRate { delay_ms, .. } => delay_ms,
            RestartOptions::ExponentialDelay { .. } => self.restart_ms.map_or(0, |restart| (restart - now_ms).max(0)),
        }
    }
}
