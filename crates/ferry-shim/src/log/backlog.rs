//! Records that the disk does not take: kept for a while, so that a disk that is full for a moment costs no
//! output, and counted where they become too many.

use std::collections::VecDeque;
use std::io;

/// Bytes of records kept. A container that writes on must not take the host's memory.
const LIMIT: usize = 1 << 20;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Whole records, the oldest first, and how many bytes of the streams they came of.
    batches: VecDeque<(Vec<u8>, usize)>,
    bytes: usize,
    /// Why the disk does not take records now.
    refusal: Option<String>,
    /// Bytes of the streams that are lost, and why.
    lost: u64,
    lost_for: String,
    /// How much of the loss the log itself does not tell yet.
    untold: u64,
}

impl Backlog {
    /// Why the disk does not take records; None while it does.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The disk refused.
    pub fn refused(&mut self, error: &io::Error) {
        self.refusal = Some(error.to_string());
    }

    /// The disk takes records again.
    pub fn resumed(&mut self) {
        self.refusal = None;
    }

    /// Keeps records for later, or counts them as lost where too many wait: what is kept has no gaps.
    pub fn keep(&mut self, records: Vec<u8>, used: usize) {
        if self.untold > 0 || self.bytes + records.len() > LIMIT {
            self.lose(used);
            return;
        }
        self.bytes += records.len();
        self.batches.push_back((records, used));
    }

    fn lose(&mut self, used: usize) {
        self.lost += used as u64;
        self.untold += used as u64;
        self.lost_for = self.refusal.clone().unwrap_or_default();
    }

    /// The oldest records that wait.
    pub fn first(&self) -> Option<&[u8]> {
        self.batches.front().map(|(records, _)| records.as_slice())
    }

    /// The oldest are written.
    pub fn written(&mut self) {
        if let Some((records, _)) = self.batches.pop_front() {
            self.bytes -= records.len();
        }
    }

    /// What the log is to say about a gap behind the records that waited.
    pub fn note(&self) -> Option<String> {
        let (bytes, reason) = (self.untold, &self.lost_for);
        (bytes > 0).then(|| format!("ferry: {bytes} bytes of output could not be logged here: {reason}\n"))
    }

    /// The log says so now.
    pub fn noted(&mut self) {
        self.untold = 0;
    }

    /// Gives up what waits.
    pub fn abandon(&mut self) {
        while let Some((_, used)) = self.batches.pop_front() {
            self.lose(used);
        }
        self.bytes = 0;
    }

    /// What was lost, in words for the exit record.
    pub fn loss(&self) -> Option<String> {
        let (bytes, reason) = (self.lost, &self.lost_for);
        (bytes > 0).then(|| format!("log: {bytes} bytes were not written: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_has_no_gaps_and_what_is_lost_is_told() {
        let mut backlog = Backlog::default();
        backlog.refused(&io::Error::other("full"));
        backlog.keep(vec![b'1'; LIMIT - 1], 7);
        backlog.keep(vec![b'2'; 2], 5);
        // There would be room, but not in order.
        backlog.keep(vec![b'3'; 1], 3);
        assert_eq!(backlog.first().unwrap().len(), LIMIT - 1);
        backlog.written();
        assert!(backlog.first().is_none());
        assert_eq!(
            backlog.note().as_deref(),
            Some("ferry: 8 bytes of output could not be logged here: full\n")
        );
        backlog.noted();
        backlog.resumed();
        assert_eq!((backlog.note(), backlog.refusal()), (None, None));
        assert_eq!(backlog.loss().as_deref(), Some("log: 8 bytes were not written: full"));
    }

    #[test]
    fn what_is_given_up_counts() {
        let mut backlog = Backlog::default();
        backlog.refused(&io::Error::other("full"));
        backlog.keep(vec![b'1'; 10], 4);
        assert_eq!(backlog.loss(), None);
        backlog.abandon();
        assert_eq!(backlog.loss().as_deref(), Some("log: 4 bytes were not written: full"));
    }
}
