//! DNS messages: queries are read with limits, answers written, and the records
//! of an outside answer walked to learn how long it may be remembered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Shortest message: the header.
const HEADER: usize = 12;
/// Longest name on the wire.
const LONGEST_NAME: usize = 255;
/// Longest label.
const LONGEST_LABEL: usize = 63;
/// What a client without EDNS takes over UDP.
const PLAIN_UDP_SIZE: usize = 512;
/// The most this server sends over UDP, below common path limits.
const LARGEST_UDP_SIZE: usize = 1232;
/// How long a container's answer may be remembered: containers come and go.
const ANSWER_TTL_SECONDS: u32 = 5;
/// More pointers than any real name has; a loop of them ends here.
const POINTER_LIMIT: usize = 32;

/// Record types this server answers itself.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const ANY: u16 = 255;
}

const CLASS_INTERNET: u16 = 1;

/// Answer codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NameError = 3,
    NotImplemented = 4,
}

/// A query that passed the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// Lower case, without the closing dot.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) internet: bool,
    /// How large an answer over UDP may be.
    pub(crate) udp_size: usize,
    /// End of the question section.
    question_end: usize,
    edns: bool,
}

/// What a datagram is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Query(Query),
    /// Refused with this code.
    Refused(Code),
    /// Too short to answer, or itself an answer.
    Ignored,
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Reads a query.
pub(crate) fn parse(message: &[u8]) -> Parsed {
    const RESPONSE: u8 = 0x80;
    const OPCODE: u8 = 0x78;
    if message.len() < HEADER || message[2] & RESPONSE != 0 {
        return Parsed::Ignored;
    }
    if message[2] & OPCODE != 0 {
        return Parsed::Refused(Code::NotImplemented);
    }
    if u16_at(message, 4) != Some(1) {
        return Parsed::Refused(Code::FormatError);
    }
    parse_question(message).map_or(Parsed::Refused(Code::FormatError), Parsed::Query)
}

fn parse_question(message: &[u8]) -> Option<Query> {
    let (name, end) = plain_name(message, HEADER)?;
    let kind = u16_at(message, end)?;
    let internet = u16_at(message, end + 2)? == CLASS_INTERNET;
    let question_end = end + 4;
    let mut query = Query { name, kind, internet, udp_size: PLAIN_UDP_SIZE, question_end, edns: false };
    let counts: usize = [6, 8, 10].iter().filter_map(|at| u16_at(message, *at)).map(usize::from).sum();
    let mut at = question_end;
    for _ in 0..counts {
        let record = record_at(message, at)?;
        if record.kind == kind::OPT {
            query.edns = true;
            query.udp_size = usize::from(record.class).clamp(PLAIN_UDP_SIZE, LARGEST_UDP_SIZE);
        }
        at = record.end;
    }
    Some(query)
}

/// A name without compression, as questions carry it.
fn plain_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let start = at;
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > LONGEST_LABEL || at + length - start > LONGEST_NAME {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}

/// Where a possibly compressed name ends.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..LONGEST_NAME {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0..=0xff => return Some(at + 2),
            _ => return None,
        }
    }
    None
}

#[derive(Clone, Copy, Debug)]
struct Record {
    kind: u16,
    class: u16,
    ttl_at: usize,
    end: usize,
}

fn record_at(message: &[u8], at: usize) -> Option<Record> {
    let fixed = skip_name(message, at)?;
    let length = usize::from(u16_at(message, fixed + 8)?);
    let end = fixed + 10 + length;
    message.get(..end)?;
    Some(Record { kind: u16_at(message, fixed)?, class: u16_at(message, fixed + 2)?, ttl_at: fixed + 4, end })
}

/// Places of the time-to-live fields of an answer and the smallest of them;
/// `None` when it is malformed, has no records or is not to be remembered.
pub(crate) fn lifetimes(message: &[u8]) -> Option<(Vec<usize>, u32)> {
    const TRUNCATED: u8 = 0x02;
    let code = message.get(3)? & 0x0f;
    let remembered = [Code::NoError as u8, Code::NameError as u8].contains(&code);
    if !remembered || message[2] & TRUNCATED != 0 || u16_at(message, 4)? != 1 {
        return None;
    }
    let mut at = skip_name(message, HEADER)? + 4;
    let counts: usize = [6, 8, 10].iter().filter_map(|at| u16_at(message, *at)).map(usize::from).sum();
    let (mut places, mut shortest) = (Vec::new(), u32::MAX);
    for _ in 0..counts {
        let record = record_at(message, at)?;
        if record.kind != kind::OPT {
            let ttl = message.get(record.ttl_at..record.ttl_at + 4)?;
            shortest = shortest.min(u32::from_be_bytes(ttl.try_into().ok()?));
            places.push(record.ttl_at);
        }
        at = record.end;
    }
    (!places.is_empty()).then_some((places, shortest))
}

/// A query without its EDNS cookies, where it has any. A cookie is between a client and the one server it
/// asks (RFC 7873), so it goes no further; and as it differs from query to query, no answer that was
/// remembered would ever be found again.
pub(crate) fn without_cookies(message: &[u8]) -> Option<Vec<u8>> {
    let mut at = skip_name(message, HEADER)? + 4;
    let counts: usize = [6, 8, 10].iter().filter_map(|at| u16_at(message, *at)).map(usize::from).sum();
    for _ in 0..counts {
        let record = record_at(message, at)?;
        if record.kind == kind::OPT {
            let options = record.ttl_at + 6;
            let kept = options_but_cookies(message.get(options..record.end)?)?;
            let length = u16::try_from(kept.len()).ok()?.to_be_bytes();
            let changed = kept.len() != record.end - options;
            let (before, after) = (&message[..options - 2], &message[record.end..]);
            return changed.then(|| [before, &length, &kept, after].concat());
        }
        at = record.end;
    }
    None
}

fn options_but_cookies(mut options: &[u8]) -> Option<Vec<u8>> {
    const COOKIE: u16 = 10;
    const OPTION_HEADER: usize = 4;
    let mut kept = Vec::with_capacity(options.len());
    while !options.is_empty() {
        let length = OPTION_HEADER + usize::from(u16_at(options, 2)?);
        let option = options.get(..length)?;
        if u16_at(option, 0)? != COOKIE {
            kept.extend_from_slice(option);
        }
        options = &options[length..];
    }
    Some(kept)
}

/// The code of an outside answer, when it answers this query.
pub(crate) fn answer_code(query: &[u8], answer: &[u8]) -> Option<u8> {
    let end = skip_name(query, HEADER)? + 4;
    let same_id = answer.get(..2)? == query.get(..2)?;
    let question = query.get(HEADER..end)?;
    let same_question = answer.get(HEADER..end)?.eq_ignore_ascii_case(question);
    let is_answer = answer[2] & 0x80 != 0;
    (same_id && same_question && is_answer).then_some(answer[3] & 0x0f)
}

/// The address a reverse-lookup name stands for.
pub(crate) fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> = octets.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        let [d, c, b, a] = <[u8; 4]>::try_from(parts).ok()?;
        return Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    let text: String = digits.into_iter().rev().collect();
    Some(IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(&text, 16).ok()?)))
}

/// What one answer record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Address(IpAddr),
    Name(String),
}

/// Writes the answer to a query that was parsed from `message`.
pub(crate) fn answer(message: &[u8], query: &Query, code: Code, records: &[Data], limit: usize) -> Vec<u8> {
    let mut answer = head(message, code);
    answer.extend_from_slice(&message[HEADER..query.question_end]);
    let mut written = 0u16;
    let room = limit.saturating_sub(if query.edns { 11 } else { 0 });
    for record in records {
        let before = answer.len();
        write_record(&mut answer, record);
        if answer.len() > room {
            const TRUNCATED: u8 = 0x02;
            answer.truncate(before);
            answer[2] |= TRUNCATED;
            break;
        }
        written += 1;
    }
    answer[4..6].copy_from_slice(&1u16.to_be_bytes());
    answer[6..8].copy_from_slice(&written.to_be_bytes());
    if query.edns {
        answer[10..12].copy_from_slice(&1u16.to_be_bytes());
        answer.push(0);
        answer.extend_from_slice(&kind::OPT.to_be_bytes());
        answer.extend_from_slice(&(LARGEST_UDP_SIZE as u16).to_be_bytes());
        answer.extend_from_slice(&[0; 6]);
    }
    answer
}

/// Writes a refusal of a message whose question could not be used.
pub(crate) fn refusal(message: &[u8], code: Code) -> Vec<u8> {
    head(message, code)
}

fn head(message: &[u8], code: Code) -> Vec<u8> {
    const RESPONSE: u8 = 0x80;
    const KEPT: u8 = 0x79;
    const RECURSION_AVAILABLE: u8 = 0x80;
    let mut head = vec![0; HEADER];
    head[..2].copy_from_slice(&message[..2]);
    head[2] = RESPONSE | message[2] & KEPT;
    head[3] = RECURSION_AVAILABLE | code as u8;
    head
}

fn write_record(answer: &mut Vec<u8>, record: &Data) {
    /// The name is the question's, which starts right behind the header.
    const QUESTION_POINTER: [u8; 2] = [0xc0, HEADER as u8];
    let (kind, data) = match record {
        Data::Address(IpAddr::V4(address)) => (kind::A, address.octets().to_vec()),
        Data::Address(IpAddr::V6(address)) => (kind::AAAA, address.octets().to_vec()),
        Data::Name(name) => (kind::PTR, wire_name(name)),
    };
    answer.extend_from_slice(&QUESTION_POINTER);
    answer.extend_from_slice(&kind.to_be_bytes());
    answer.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    answer.extend_from_slice(&ANSWER_TTL_SECONDS.to_be_bytes());
    answer.extend_from_slice(&(data.len() as u16).to_be_bytes());
    answer.extend_from_slice(&data);
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| !label.is_empty()).take(POINTER_LIMIT) {
        let label = &label.as_bytes()[..label.len().min(LONGEST_LABEL)];
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.truncate(LONGEST_NAME - 1);
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_bytes(name: &str, kind: u16, edns: bool) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
        bytes.extend(wire_name(name));
        bytes.extend([kind.to_be_bytes(), CLASS_INTERNET.to_be_bytes()].concat());
        if edns {
            bytes.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        }
        bytes
    }

    fn parsed(bytes: &[u8]) -> Query {
        match parse(bytes) {
            Parsed::Query(query) => query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn queries_are_read_and_answered() {
        let bytes = query_bytes("Web.Shop", kind::A, true);
        let query = parsed(&bytes);
        assert_eq!((query.name.as_str(), query.kind, query.udp_size), ("web.shop", kind::A, 1232));
        let records = [Data::Address("10.0.0.2".parse().unwrap())];
        let reply = answer(&bytes, &query, Code::NoError, &records, query.udp_size);
        assert_eq!(reply[..4], [0x12, 0x34, 0x81, 0x80]);
        assert_eq!(answer_code(&bytes, &reply), Some(0));
        assert_eq!(lifetimes(&reply).map(|(places, ttl)| (places.len(), ttl)), Some((1, ANSWER_TTL_SECONDS)));
    }

    #[test]
    fn what_does_not_fit_is_truncated() {
        let bytes = query_bytes("many", kind::A, false);
        let query = parsed(&bytes);
        let records = vec![Data::Address("10.0.0.2".parse().unwrap()); 100];
        let reply = answer(&bytes, &query, Code::NoError, &records, query.udp_size);
        assert!(reply.len() <= 512 && reply[2] & 2 != 0);
    }

    #[test]
    fn malformed_messages() {
        assert_eq!(parse(&[0; 5]), Parsed::Ignored);
        let mut response = query_bytes("a", kind::A, false);
        response[2] |= 0x80;
        assert_eq!(parse(&response), Parsed::Ignored);
        let good = query_bytes("abc", kind::A, true);
        for cut in HEADER..good.len() {
            assert_eq!(parse(&good[..cut]), Parsed::Refused(Code::FormatError), "{cut}");
        }
        let mut looping = good.clone();
        looping[HEADER] = 0xc0;
        assert_eq!(parse(&looping), Parsed::Refused(Code::FormatError));
    }

    #[test]
    fn cookies_go_no_further() {
        const COOKIE: [u8; 12] = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        const PADDING: [u8; 6] = [0, 12, 0, 2, 0, 0];
        let with = |options: &[u8]| {
            let mut bytes = query_bytes("a.example", kind::A, true);
            let end = bytes.len();
            bytes[end - 2..].copy_from_slice(&(options.len() as u16).to_be_bytes());
            bytes.extend_from_slice(options);
            bytes
        };
        for (options, left) in [
            (COOKIE.to_vec(), Some(vec![])),
            ([&PADDING[..], &COOKIE].concat(), Some(PADDING.to_vec())),
            ([&COOKIE[..], &PADDING].concat(), Some(PADDING.to_vec())),
            (PADDING.to_vec(), None),
            (vec![], None),
            // Cut short: left as it is.
            (COOKIE[..7].to_vec(), None),
        ] {
            assert_eq!(without_cookies(&with(&options)), left.map(|left| with(&left)), "{options:?}");
        }
        assert_eq!(without_cookies(&query_bytes("a.example", kind::A, false)), None);
    }

    #[test]
    fn reverse_names() {
        for (name, address) in [
            ("2.0.17.172.in-addr.arpa", Some("172.17.0.2")),
            ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", Some("fd00::1")),
            ("17.172.in-addr.arpa", None),
            ("example.org", None),
        ] {
            assert_eq!(reverse_address(name), address.map(|text| text.parse().unwrap()), "{name}");
        }
    }
}
