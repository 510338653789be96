//! When a link that could not be made is tried again: exponentially later, with jitter from a seed. Pure.

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffOptions {
    /// Milliseconds before the second attempt; the first is made at once.
    pub initial_ms: u64,
    /// Milliseconds beyond which waiting does not grow.
    pub max_ms: u64,
    /// How much longer each wait is than the one before; at least 1.
    pub multiplier: f64,
    /// Part of a wait that is drawn at random, from 0 to 1: keeps nodes that lost the same peer from dialling in step.
    pub jitter: f64,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self { initial_ms: 50, max_ms: 2_000, multiplier: 2.0, jitter: 0.5 }
    }
}

/// The waits of one dialler.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    options: BackoffOptions,
    next_ms: f64,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(options: BackoffOptions, seed: u64) -> Self {
        Self { options, next_ms: options.initial_ms as f64, random: seed }
    }

    /// A link was up: the next wait is the first again.
    pub(crate) fn reset(&mut self) {
        self.next_ms = self.options.initial_ms as f64;
    }

    /// Milliseconds to wait now: between `1 - jitter` of the full wait and all of it.
    pub(crate) fn next_ms(&mut self) -> u64 {
        let full = self.next_ms;
        self.next_ms = (full * self.options.multiplier.max(1.0)).min(self.options.max_ms as f64);
        (full * (1.0 - self.options.jitter.clamp(0.0, 1.0) * self.draw())) as u64
    }

    /// SplitMix64, from 0 to 1.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(jitter: f64, seed: u64) -> Vec<u64> {
        let options = BackoffOptions { initial_ms: 100, max_ms: 1_000, multiplier: 2.0, jitter };
        let mut backoff = Backoff::new(options, seed);
        (0..6).map(|_| backoff.next_ms()).collect()
    }

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_link() {
        assert_eq!(waits(0.0, 1), [100, 200, 400, 800, 1_000, 1_000]);
        let mut backoff = Backoff::new(BackoffOptions { jitter: 0.0, ..BackoffOptions::default() }, 1);
        let first = backoff.next_ms();
        backoff.next_ms();
        backoff.reset();
        assert_eq!(backoff.next_ms(), first);
    }

    #[test]
    fn jitter_comes_from_the_seed_and_only_shortens() {
        assert_eq!(waits(0.5, 7), waits(0.5, 7));
        assert_ne!(waits(0.5, 7), waits(0.5, 8));
        for (drawn, full) in waits(0.5, 7).into_iter().zip(waits(0.0, 7)) {
            assert!(drawn <= full && drawn >= full / 2, "{drawn} of {full}");
        }
    }
}
