//! A token bucket without a clock of its own.

use std::time::Duration;

const NANOS: u64 = 1_000_000_000;

/// Lets `per_second` pass on average, and a burst of `burst` at once.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: u64,
    /// In billionths of a token: what comes in per nanosecond is a whole number then.
    level: u64,
    full: u64,
    filled_at: Duration,
}

impl TokenBucket {
    /// Full. Both numbers are at least 1. `now` is any clock that never goes back.
    pub fn new(per_second: u32, burst: u32, now: Duration) -> TokenBucket {
        let full = u64::from(burst.max(1)) * NANOS;
        TokenBucket {
            per_second: u64::from(per_second.max(1)),
            level: full,
            full,
            filled_at: now,
        }
    }

    /// Whether one more may pass now.
    pub fn take(&mut self, now: Duration) -> bool {
        self.fill(now);
        let allowed = self.level >= NANOS;
        if allowed {
            self.level -= NANOS;
        }
        allowed
    }

    /// How long until the next one may pass; zero if it may now.
    pub fn wait(&mut self, now: Duration) -> Duration {
        self.fill(now);
        let missing = NANOS.saturating_sub(self.level);
        Duration::from_nanos(missing.div_ceil(self.per_second))
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at);
        let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        self.level = self
            .level
            .saturating_add(passed.saturating_mul(self.per_second))
            .min(self.full);
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bucket: &mut TokenBucket, now: Duration, tries: u32) -> u32 {
        (0..tries).filter(|_| bucket.take(now)).count() as u32
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Duration::from_secs(100);
        let mut bucket = TokenBucket::new(1000, 50, start);
        assert_eq!(passed(&mut bucket, start, 80), 50);
        assert_eq!(bucket.wait(start), Duration::from_millis(1));
        let almost = start + Duration::from_nanos(999_999);
        assert_eq!(passed(&mut bucket, almost, 5), 0);
        assert_eq!(bucket.wait(almost), Duration::from_nanos(1));
        assert_eq!(passed(&mut bucket, start + Duration::from_millis(1), 5), 1);
        // Over ten seconds in steps that no token fits into evenly: the rate, and nothing is lost by rounding.
        let mut now = start + Duration::from_millis(1);
        let mut total = 0;
        for _ in 0..30_000 {
            now += Duration::from_nanos(333_333);
            total += passed(&mut bucket, now, 2);
        }
        assert_eq!(total, 9_999);
    }

    #[test]
    fn a_long_silence_earns_one_burst_and_time_that_goes_back_nothing() {
        let mut bucket = TokenBucket::new(u32::MAX, 3, Duration::ZERO);
        let late = Duration::from_secs(u64::from(u32::MAX));
        assert_eq!(passed(&mut bucket, late, 10), 3);
        assert_eq!(passed(&mut bucket, Duration::ZERO, 10), 0);
        assert_eq!(bucket.wait(late), Duration::from_nanos(1));
        assert_eq!(passed(&mut bucket, late + Duration::from_secs(1), 10), 3);
    }

    #[test]
    fn nothing_per_second_is_one_per_second() {
        let mut bucket = TokenBucket::new(0, 0, Duration::ZERO);
        assert!(bucket.take(Duration::ZERO));
        assert!(!bucket.take(Duration::from_millis(999)));
        assert!(bucket.take(Duration::from_secs(1)));
    }
}
