//! Scripted failures give the exact restart times of Flink's strategies.
#![allow(clippy::unwrap_used)]

use super::RestartOptions;
use super::restart::RestartStrategy;

/// Feeds failures at these times; answers each one's delay, or `None` from where the job may not restart.
fn delays(options: RestartOptions, jitter: f64, failures: &[i64]) -> Vec<Option<i64>> {
    options.validate().unwrap();
    let mut strategy = RestartStrategy::new(options);
    let mut delay = |now: &i64| {
        strategy.notify_failure(*now, jitter);
        strategy.can_restart(*now).then(|| strategy.delay_ms(*now))
    };
    failures.iter().map(&mut delay).collect()
}

fn exponential(jitter_factor: f64, attempts_before_reset: Option<u32>) -> RestartOptions {
    RestartOptions::ExponentialDelay {
        immediate_restarts: 0,
        initial_ms: 1_000,
        max_ms: 60_000,
        multiplier: 1.5,
        jitter_factor,
        reset_threshold_ms: 3_600_000,
        attempts_before_reset,
    }
}

#[test]
fn none_never_restarts() {
    assert_eq!(delays(RestartOptions::None, 0.5, &[0]), [None]);
}

#[test]
fn fixed_delay_restarts_so_often_in_the_life_of_the_job() {
    let options = RestartOptions::FixedDelay { attempts: 2, delay_ms: 500 };
    assert_eq!(delays(options, 0.5, &[0, 10, 1_000_000]), [Some(500), Some(500), None]);
    assert_eq!(delays(RestartOptions::fixed_delay(), 0.5, &[0, 9_000]), [Some(1_000), None]);
}

#[test]
fn failure_rate_ends_the_job_at_one_failure_too_many_within_the_interval() {
    let options = RestartOptions::FailureRate { max_failures_per_interval: 2, interval_ms: 1_000, delay_ms: 7 };
    // The third failure counts only if the first is at most the interval away.
    assert_eq!(delays(options.clone(), 0.5, &[0, 400, 1_000]), [Some(7), Some(7), None]);
    assert_eq!(delays(options.clone(), 0.5, &[0, 400, 1_001, 1_400]), [Some(7), Some(7), Some(7), None]);
    assert_eq!(delays(options, 0.5, &[0, 600, 1_200, 1_800, 2_400]), [Some(7); 5]);
}

#[test]
fn exponential_delay_grows_by_half_up_to_a_minute() {
    let failures: Vec<i64> = (0..13).map(|n| n * 100_000).collect();
    let expected = [1_000, 1_500, 2_250, 3_375, 5_062, 7_593, 11_390, 17_085, 25_628, 38_443, 57_665, 60_000, 60_000];
    assert_eq!(delays(exponential(0.1, None), 0.5, &failures), expected.map(Some));
    let many: Vec<i64> = (0..3_000).map(|n| n * 100_000).collect();
    assert_eq!(delays(exponential(0.1, None), 0.5, &many).last(), Some(&Some(60_000)), "also beyond every power");
}

#[test]
fn jitter_spreads_the_delay_within_the_initial_and_the_maximal_one() {
    // 1,500 ms by a tenth: offsets from -150 to +150; a first delay never falls below the initial one.
    assert_eq!(delays(exponential(0.1, None), 0.0, &[0, 100_000]), [Some(1_000), Some(1_350)]);
    assert_eq!(delays(exponential(0.1, None), 0.999_999, &[0, 100_000]), [Some(1_100), Some(1_650)]);
    assert_eq!(delays(exponential(0.0, None), 0.999_999, &[0, 100_000]), [Some(1_000), Some(1_500)]);
}

#[test]
fn failures_before_the_restart_belong_to_the_one_before() {
    let mut strategy = RestartStrategy::new(exponential(0.0, None));
    assert!(strategy.notify_failure(0, 0.5));
    assert!(!strategy.notify_failure(400, 0.5));
    assert_eq!(strategy.delay_ms(400), 600);
    assert!(!strategy.notify_failure(1_000, 0.5), "the restart itself is still included");
    assert!(strategy.notify_failure(1_001, 0.5));
    assert_eq!(strategy.delay_ms(1_001), 1_500);
}

#[test]
fn a_quiet_hour_after_the_restart_resets_delay_and_attempts() {
    // Restart of the second failure is due at 2,000 + 1,500; the threshold counts from there.
    let reset_at = 2_000 + 1_500 + 3_600_000;
    assert_eq!(delays(exponential(0.0, None), 0.5, &[0, 2_000, reset_at - 1]).last(), Some(&Some(2_250)));
    assert_eq!(delays(exponential(0.0, None), 0.5, &[0, 2_000, reset_at]).last(), Some(&Some(1_000)));
    let limited = exponential(0.0, Some(2));
    assert_eq!(delays(limited.clone(), 0.5, &[0, 2_000, 9_000]), [Some(1_000), Some(1_500), None]);
    assert_eq!(delays(limited, 0.5, &[0, 2_000, reset_at]), [Some(1_000), Some(1_500), Some(1_000)]);
}

#[test]
fn the_first_restart_is_at_once_and_again_after_a_quiet_minute() {
    let options = RestartOptions::exponential_delay();
    let at = [0, 5_000, 20_000, 22_000 + 60_000];
    assert_eq!(delays(options, 0.5, &at), [Some(0), Some(1_000), Some(1_500), Some(0)]);
}

#[test]
fn without_a_setting_jobs_with_checkpoints_restart_and_others_do_not() {
    let RestartOptions::ExponentialDelay { immediate_restarts, .. } = RestartOptions::default_for(true) else {
        panic!("exponential delay");
    };
    assert_eq!(immediate_restarts, 1);
    assert_eq!(RestartOptions::default_for(false), RestartOptions::None);
}

#[test]
fn senseless_settings_are_named() {
    let options = RestartOptions::ExponentialDelay {
        immediate_restarts: 0,
        initial_ms: 10,
        max_ms: 5,
        multiplier: 2.0,
        jitter_factor: 0.1,
        reset_threshold_ms: 1,
        attempts_before_reset: None,
    };
    let expected = "restart-strategy.exponential-delay.max-backoff must not be below the initial backoff";
    assert_eq!(options.validate(), Err(expected.to_owned()));
}
