//! Outside answers, remembered as long as their records allow.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::message;

/// Enough for the names of a busy host; about 1 MB at the worst usual size.
const MOST_ENTRIES: usize = 2048;
/// Answers larger than this are rare and not worth the memory.
const LARGEST_ANSWER: usize = 4096;
/// No answer is remembered longer, whatever its records say.
const LONGEST_SECONDS: u32 = 3600;

#[derive(Debug)]
struct Entry {
    answer: Vec<u8>,
    ttl_places: Vec<usize>,
    stored: Instant,
    expires: Instant,
}

/// Answers by who was asked and the query without its id.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<(u64, Vec<u8>), Entry>,
}

impl Cache {
    /// The answer to a query, its id and lifetimes brought up to date.
    pub(crate) fn get(&self, scope: u64, query: &[u8], now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(&(scope, query.get(2..)?.to_vec()))?;
        if entry.expires <= now {
            return None;
        }
        let age = now.duration_since(entry.stored).as_secs() as u32;
        let mut answer = entry.answer.clone();
        answer[..2].copy_from_slice(&query[..2]);
        for place in &entry.ttl_places {
            let field = &mut answer[*place..*place + 4];
            let ttl = u32::from_be_bytes(field.try_into().expect("four bytes"));
            field.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
        }
        Some(answer)
    }

    /// Remembers an answer if it may be.
    pub(crate) fn put(&mut self, scope: u64, query: &[u8], answer: &[u8], now: Instant) {
        let Some((ttl_places, ttl)) = message::lifetimes(answer) else { return };
        if ttl == 0 || answer.len() > LARGEST_ANSWER || query.len() < 2 {
            return;
        }
        if self.entries.len() >= MOST_ENTRIES {
            self.entries.retain(|_, entry| entry.expires > now);
        }
        if self.entries.len() >= MOST_ENTRIES {
            self.entries.clear();
        }
        let expires = now + Duration::from_secs(u64::from(ttl.min(LONGEST_SECONDS)));
        let entry = Entry { answer: answer.to_vec(), ttl_places, stored: now, expires };
        self.entries.insert((scope, query[2..].to_vec()), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Code, Data, Parsed, answer, parse};
    use super::*;

    #[test]
    fn answers_age_and_end() {
        let query = [&[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[1, b'a', 0, 0, 1, 0, 1]].concat();
        let Parsed::Query(parsed) = parse(&query) else { panic!("a query") };
        let records = [Data::Address("10.0.0.1".parse().unwrap())];
        let reply = answer(&query, &parsed, Code::NoError, &records, 512);
        let mut cache = Cache::default();
        let start = Instant::now();
        cache.put(7, &query, &reply, start);
        let mut other_id = query.clone();
        other_id[0] = 9;
        let later = cache.get(7, &other_id, start + Duration::from_secs(2)).expect("still there");
        assert_eq!((later[0], message::lifetimes(&later).map(|(_, ttl)| ttl)), (9, Some(3)));
        assert_eq!(cache.get(7, &query, start + Duration::from_secs(5)), None);
        assert_eq!(cache.get(8, &query, start), None);
    }
}
