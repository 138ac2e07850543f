//! Whether a process noted in a state file is still the same one: `/proc/<pid>/stat`.

/// What of a process is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// `R`, `S`, `Z`, ...
    pub state: char,
    /// When it began, in ticks since boot: together with the number it names a process for good.
    pub start_time: u64,
}

impl ProcessStat {
    /// Reads it; `None` where no such process is.
    pub fn of(pid: i32) -> Option<ProcessStat> {
        ProcessStat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<ProcessStat> {
        // The name stands in parentheses and may hold some itself.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(ProcessStat { state, start_time: fields.nth(18)?.parse().ok()? })
    }

    pub fn has_ended(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses() {
        let text = "7 (a) Z (b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(ProcessStat::parse(text), Some(ProcessStat { state: 'S', start_time: 4242 }));
        let own = ProcessStat::of(std::process::id() as i32).expect("procfs is mounted");
        assert!(!own.has_ended() && own.start_time > 0);
    }
}
