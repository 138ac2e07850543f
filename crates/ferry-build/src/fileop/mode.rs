//! `--chmod`: octal numbers and symbolic clauses.

use super::FileError;

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// These bits.
    Octal(u32),
    /// Clauses applied to the old bits.
    Symbolic(Vec<Clause>),
}

/// One `who op permissions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of the classes it is about.
    who: u32,
    operation: char,
    permissions: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl ModeChange {
    /// Parses the value of `--chmod`.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        if let Ok(bits) = u32::from_str_radix(text, 8) {
            return Ok(Self::Octal(bits & 0o7777));
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let classes = part.len() - part.trim_start_matches(['u', 'g', 'o', 'a']).len();
            let who = part[..classes].chars().fold(0, |who, class| who | class_bits(class));
            let who = if who == 0 { USER | GROUP | OTHER } else { who };
            let mut rest = &part[classes..];
            if rest.is_empty() {
                return Err(FileError::Mode(text.to_owned()));
            }
            while let Some(operation) = rest.chars().next() {
                if !matches!(operation, '+' | '-' | '=') {
                    return Err(FileError::Mode(text.to_owned()));
                }
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
                clauses.push(Clause { who, operation, permissions: rest[1..end].to_owned() });
                rest = &rest[end..];
            }
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The new bits of an entry.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

fn class_bits(class: char) -> u32 {
    match class {
        'u' => USER,
        'g' => GROUP,
        'o' => OTHER,
        _ => USER | GROUP | OTHER,
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = 0;
        for permission in self.permissions.chars() {
            bits |= match permission {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(mode >> 6),
                'g' => spread(mode >> 3),
                'o' => spread(mode),
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.operation {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !(self.who & 0o777)) | bits,
        }
    }
}

/// One class's three bits for all classes.
fn spread(class: u32) -> u32 {
    (class & 0o7) * 0o111
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    #[test]
    fn changes() {
        for (text, mode, directory, wanted) in [
            ("644", 0o777, false, 0o644),
            ("4755", 0, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o755, true, 0o700),
            ("a=r", 0o755, false, 0o444),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
        ] {
            let change = ModeChange::parse(text).expect(text);
            assert_eq!(change.apply(mode, directory), wanted, "{text} on {mode:o}");
        }
        assert!(ModeChange::parse("u").is_err());
    }
}
