//! How long to wait before a connection is tried again: longer each time, up to a bound. There is no
//! randomness in it: one client waits for one server here, no crowd comes back at once.

use std::time::Duration;

/// The least that a server's `retry:` can ask for: `retry: 0` shall not make a broken server's client spin.
const LEAST: Duration = Duration::from_millis(100);

/// The delays between attempts: the first one, then twice as long each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    first: Duration,
    most: Duration,
    /// Attempts since the last one that succeeded.
    attempts: u32,
}

impl Retry {
    /// Delays from `first`, doubling, to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first: first.min(most), most, attempts: 0 }
    }

    /// How long to wait before the next attempt.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so there is no Option to give")]
    pub fn next(&mut self) -> Duration {
        let factor = 2_u32.checked_pow(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        factor.and_then(|factor| self.first.checked_mul(factor)).map_or(self.most, |delay| delay.min(self.most))
    }

    /// An attempt succeeded: the next delay is the first one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The server asks for another first delay (`retry:`); it is held within bounds.
    pub fn set_first(&mut self, first: Duration) {
        self.first = first.max(LEAST).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(retry: &mut Retry, expected_ms: &[u64]) {
        for (attempt, ms) in expected_ms.iter().enumerate() {
            assert_eq!(retry.next(), Duration::from_millis(*ms), "attempt {attempt}");
        }
    }

    fn retry(first_ms: u64, most_ms: u64) -> Retry {
        Retry::new(Duration::from_millis(first_ms), Duration::from_millis(most_ms))
    }

    #[test]
    fn delays_double_up_to_the_bound() {
        check(&mut retry(500, 30_000), &[500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        check(&mut retry(7, 7), &[7, 7]);
        check(&mut retry(9, 7), &[7, 7]);
    }

    #[test]
    fn a_success_begins_anew() {
        let mut retry = retry(500, 30_000);
        check(&mut retry, &[500, 1000]);
        retry.reset();
        check(&mut retry, &[500, 1000]);
    }

    #[test]
    fn the_server_sets_the_first_delay_within_bounds() {
        for (asked_ms, expected_ms) in [(2000, [2000, 4000, 8000]), (0, [100, 200, 400]), (90_000, [30_000; 3])] {
            let mut retry = retry(500, 30_000);
            retry.set_first(Duration::from_millis(asked_ms));
            check(&mut retry, &expected_ms);
        }
        let mut low = retry(1, 10);
        low.set_first(Duration::MAX);
        check(&mut low, &[10]);
    }

    #[test]
    fn what_the_server_asks_for_does_not_forget_the_attempts() {
        let mut retry = retry(500, 30_000);
        check(&mut retry, &[500, 1000]);
        retry.set_first(Duration::from_secs(1));
        check(&mut retry, &[4000, 8000]);
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        let mut retry = Retry::new(Duration::from_secs(1), Duration::MAX);
        retry.attempts = 31;
        check(&mut retry, &[2_147_483_648_000]);
        for attempts in [32, 64, u32::MAX] {
            retry.attempts = attempts;
            assert_eq!(retry.next(), Duration::MAX);
        }
    }
}
