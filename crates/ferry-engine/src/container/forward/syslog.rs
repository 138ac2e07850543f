//! A line for syslog, in Docker's forms.

use jiff::tz::TimeZone;

use super::target::Place;
use super::{Facts, Line};

/// Facilities by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

/// Which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// For a socket of this machine: without a host.
    Local,
    /// RFC 3164.
    Old,
    /// RFC 5424, with seconds or microseconds.
    New { micro: bool },
}

/// Facility and form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    facility: u8,
    form: Form,
    /// Streams need an end of each message.
    ends_lines: bool,
}

impl Style {
    pub fn parse(facility: Option<&str>, form: Option<&str>, place: &Place) -> Result<Style, String> {
        let facility = match facility {
            None => DAEMON,
            Some(text) => {
                let named =
                    FACILITIES.iter().position(|name| *name == text).and_then(|at| u8::try_from(at).ok());
                let number = text.parse().ok().filter(|number| *number < 24);
                named.or(number).ok_or_else(|| format!("invalid syslog facility {text:?}"))?
            }
        };
        let is_local = matches!(place, Place::UnixDatagrams(_) | Place::UnixStream(_));
        let form = match form {
            None if is_local => Form::Local,
            None | Some("rfc3164") => Form::Old,
            Some("rfc5424") => Form::New { micro: false },
            Some("rfc5424micro") => Form::New { micro: true },
            Some(other) => {
                return Err(format!(
                    "invalid syslog format {other:?}: rfc3164, rfc5424 and rfc5424micro are known"
                ));
            }
        };
        Ok(Style { facility, form, ends_lines: matches!(place, Place::Tcp(_) | Place::UnixStream(_)) })
    }

    pub fn packet(&self, line: &Line<'_>, facts: &Facts) -> Vec<u8> {
        let priority = self.facility * 8 + if line.is_error { ERROR } else { INFORMATION };
        let time = line.time.to_zoned(TimeZone::system());
        let (tag, pid, host) = (&facts.tag, facts.pid, &facts.hostname);
        let head = match self.form {
            Form::Local => format!("<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Form::Old => format!("<{priority}>{} {host} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Form::New { micro } => {
                let moment =
                    time.strftime(if micro { "%Y-%m-%dT%H:%M:%S.%6f%:z" } else { "%Y-%m-%dT%H:%M:%S%:z" });
                format!("<{priority}>1 {moment} {host} {tag} {pid} {tag} - ")
            }
        };
        let mut packet = head.into_bytes();
        packet.extend_from_slice(line.text);
        if self.ends_lines {
            packet.push(b'\n');
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let place = Place::parse("udp://127.0.0.1:514", 514).unwrap();
        let line = Line { text: b"hello", time: "2024-01-02T03:04:05Z".parse().unwrap(), is_error: true };
        let facts = Facts { tag: "web".into(), hostname: "lab".into(), pid: 7, ..Facts::default() };
        let text = |facility, form| {
            let style = Style::parse(facility, form, &place).unwrap();
            String::from_utf8(style.packet(&line, &facts)).unwrap()
        };
        assert!(
            text(None, None).starts_with("<27>Jan  ") && text(None, None).ends_with(" lab web[7]: hello")
        );
        assert!(text(Some("local7"), Some("rfc5424")).starts_with("<187>1 2024-01-0"));
        assert!(
            Style::parse(Some("x"), None, &place).is_err() && Style::parse(None, Some("x"), &place).is_err()
        );
    }
}
