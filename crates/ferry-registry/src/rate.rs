//! Rate limits: so many requests a second for each client, with room for a burst.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A burst may have the requests of so many seconds.
const BURST_SECONDS: f64 = 10.0;
/// Most clients that are remembered; beyond it, those that have been quiet are forgotten.
const CLIENTS_MAX: usize = 10_000;

#[derive(Debug)]
struct Bucket {
    left: f64,
    since: Instant,
}

/// Counts requests by client.
#[derive(Debug)]
pub struct Limiter {
    per_second: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Limiter {
    /// A limiter.
    pub fn new(per_second: u32) -> Limiter {
        Limiter { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Counts a request; says how long to wait where there were too many.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let full = self.per_second * BURST_SECONDS;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= CLIENTS_MAX && !buckets.contains_key(&network(client)) {
            // A bucket that is full again says no more than none.
            let filled = |bucket: &Bucket| bucket.left + self.gained(bucket, now) >= full;
            buckets.retain(|_, bucket| !filled(bucket));
            if buckets.len() >= CLIENTS_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(network(client)).or_insert(Bucket { left: full, since: now });
        bucket.left = (bucket.left + self.gained(bucket, now)).min(full);
        bucket.since = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / self.per_second));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    fn gained(&self, bucket: &Bucket, now: Instant) -> f64 {
        now.saturating_duration_since(bucket.since).as_secs_f64() * self.per_second
    }
}

/// Who counts as one client: an IPv4 address, or an IPv6 network, since everybody has a whole one of those.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_and_waiting() {
        let limiter = Limiter::new(2);
        let start = Instant::now();
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..20 {
            limiter.take(one, start).unwrap();
        }
        assert_eq!(limiter.take(one, start), Err(Duration::from_millis(500)));
        assert!(limiter.take("10.0.0.2".parse().unwrap(), start).is_ok());
        assert!(limiter.take(one, start + Duration::from_millis(600)).is_ok());
        assert!(limiter.take(one, start + Duration::from_millis(600)).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(1);
        let start = Instant::now();
        for number in 0..CLIENTS_MAX as u32 {
            limiter.take(IpAddr::V4(number.into()), start).unwrap();
        }
        let next = IpAddr::V4((CLIENTS_MAX as u32).into());
        assert!(limiter.take(next, start).is_err());
        assert!(limiter.take(next, start + Duration::from_secs(11)).is_ok());
        assert_eq!(limiter.buckets.lock().unwrap().len(), 1);
    }
}
