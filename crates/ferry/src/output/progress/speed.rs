//! How fast something goes, over its last seconds only: an average since the start would go on to promise what a
//! connection that has stalled does not hold.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::output::units;

/// Figures that are looked at.
const WINDOW: Duration = Duration::from_secs(5);
/// Least time between two figures that are kept.
const STEP: Duration = Duration::from_millis(200);
/// Nothing is said before so much time was seen: the first figures say more about buffers than about the way.
const LEAST: Duration = Duration::from_millis(600);

/// Figures of one layer, oldest first.
#[derive(Debug, Default)]
pub struct Speed(VecDeque<(Instant, i64)>);

impl Speed {
    /// Notes how far it is.
    pub fn note(&mut self, now: Instant, current: i64) {
        if let Some((_, latest)) = self.0.back()
            && current < *latest
        {
            // It began anew.
            self.0.clear();
        }
        while self.0.len() > 2 && now.duration_since(self.0[1].0) > WINDOW {
            self.0.pop_front();
        }
        // The latest figure is replaced until it stands far enough from the one before.
        if self.0.len() > 1 && now.duration_since(self.0[self.0.len() - 2].0) < STEP {
            self.0.pop_back();
        }
        self.0.push_back((now, current));
    }

    /// Bytes per second.
    fn rate(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.0.front()?, self.0.back()?);
        let passed = last.duration_since(*first);
        (passed >= LEAST && to > from).then(|| (to - from) as f64 / passed.as_secs_f64())
    }

    /// `  12.3MB/s  8s left`; nothing where that is not known.
    pub fn text(&self, missing: i64) -> String {
        let Some(rate) = self.rate() else { return String::new() };
        let shown = units::size4(rate as i64);
        if missing <= 0 {
            return format!("  {shown}/s");
        }
        let seconds = (missing as f64 / rate).ceil() as i64;
        let left = match seconds {
            0..60 => format!("{seconds}s"),
            60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
            _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        };
        format!("  {shown}/s  {left} left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_seconds_count() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut speed = Speed::default();
        speed.note(at(0), 0);
        assert_eq!(speed.text(100), "");
        for step in 1..=10 {
            speed.note(at(step * 1000), step as i64 * 1_000_000);
        }
        assert_eq!(speed.text(90_000_000), "  1MB/s  1m30s left");
        // It stalls: what remains takes ever longer.
        for step in 11..=14 {
            speed.note(at(step * 1000), 10_000_000);
        }
        assert!(speed.text(90_000_000).ends_with("m00s left") || !speed.text(90_000_000).contains("1m30s"));
        assert_eq!(speed.text(0).matches("left").count(), 0);
        // It begins anew.
        speed.note(at(15_000), 5);
        assert_eq!(speed.text(100), "");
    }
}
