//! How often a caller may ask: a token bucket each.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Callers that have a bucket of their own; further ones share one.
const MOST: usize = 1024;

/// Whose bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    /// A caller who is known.
    Identity(String),
    /// Whoever is at this address.
    Address(IpAddr),
    /// All for whom there is no room.
    Others,
}

/// The buckets. Each fills by `rate` tokens a second and holds twice as many.
#[derive(Debug)]
pub(super) struct Buckets {
    rate: f64,
    table: Mutex<HashMap<Payer, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Buckets {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), table: Mutex::default() }
    }

    /// Whether the payer has used up a bucket of its own. One without has not: those who share a bucket shut nobody out.
    pub(super) fn used_up(&self, payer: &Payer, now: Instant) -> bool {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(payer).is_some_and(|bucket| self.level(bucket, now) < 1.0)
    }

    /// Takes a token; false when there is none.
    pub(super) fn take(&self, payer: Payer, now: Instant) -> bool {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if !table.contains_key(&payer) && table.len() >= MOST {
            // A full bucket is as good as none.
            table.retain(|_, bucket| self.level(bucket, now) < self.most());
        }
        let payer = if table.contains_key(&payer) || table.len() < MOST { payer } else { Payer::Others };
        let bucket = table.entry(payer).or_insert(Bucket { tokens: self.most(), at: now });
        *bucket = Bucket { tokens: self.level(bucket, now), at: now };
        let there = bucket.tokens >= 1.0;
        if there {
            bucket.tokens -= 1.0;
        }
        there
    }

    fn most(&self) -> f64 {
        2.0 * self.rate
    }

    fn level(&self, bucket: &Bucket, now: Instant) -> f64 {
        let filled = now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
        (bucket.tokens + filled).min(self.most())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn identity(name: &str) -> Payer {
        Payer::Identity(name.to_owned())
    }

    #[test]
    fn a_caller_has_a_burst_and_then_the_rate_and_takes_nothing_from_others() {
        let (buckets, start) = (Buckets::new(5), Instant::now());
        let taken = |name: &str, at: Instant| (0..50).filter(|_| buckets.take(identity(name), at)).count();
        assert_eq!(taken("a", start), 10);
        assert!(buckets.used_up(&identity("a"), start) && !buckets.used_up(&identity("b"), start));
        assert_eq!(taken("b", start), 10);
        assert_eq!(taken("a", start + Duration::from_millis(1_000)), 5);
        assert_eq!(taken("a", start + Duration::from_millis(1_100)), 0);
        assert_eq!(taken("a", start + Duration::from_secs(3_600)), 10);
    }

    #[test]
    fn many_addresses_cost_bounded_memory_and_leave_known_callers_their_buckets() {
        let (buckets, now) = (Buckets::new(1), Instant::now());
        assert!(buckets.take(identity("a"), now));
        let address = |number: u32| Payer::Address(IpAddr::V4(Ipv4Addr::from_bits(number)));
        let served = (0..10_000).filter(|number| buckets.take(address(*number), now)).count();
        assert!(served <= MOST + 2, "{served}: beyond the table they share one bucket");
        assert!(buckets.table.lock().expect("table").len() <= MOST + 1);
        assert!(buckets.take(identity("a"), now));
        assert!(!buckets.used_up(&address(20_000), now), "no place is no fault of its own");
        // Once buckets are full again there is room.
        assert!(buckets.take(address(20_000), now + Duration::from_secs(10)));
        assert!(buckets.table.lock().expect("table").len() < 10);
    }
}
