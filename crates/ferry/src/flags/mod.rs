//! The grammar of Docker's command-line flags, and flags declared as typed structs.
//!
//! Owns what `-it`, `-p80:80`, `--rm=false`, `--name x` and `--` mean, and the texts of what is wrong with
//! them. Docker's grammar differs from the usual Rust parsers in places that scripts lean on (a switch
//! takes `=false`, `run` stops at the image, values may start with a dash), so it is written out here; a
//! table per command also starts faster than a tree of all of them.

mod parse;
mod value;

pub use parse::{FlagError, Order, parse};
pub use value::{Bytes, Duration, FlagValue, NanoCpus};

/// One flag of a command.
#[derive(Debug)]
pub struct FlagSpec {
    /// Name without the dashes.
    pub long: &'static str,
    /// The letter, or `'\0'`.
    pub short: char,
    /// What kind of value help shows; empty for a switch.
    pub kind: &'static str,
    /// Takes no value unless written with `=`.
    pub is_switch: bool,
    /// One line of help.
    pub help: &'static str,
}

/// The flags of one command.
pub trait FlagSet: Default {
    /// What can be given.
    fn specs() -> Vec<&'static FlagSpec>;
    /// Takes one value; None when the name is not of this set.
    fn set(&mut self, long: &str, value: &str) -> Option<Result<(), String>>;
}

/// For commands without flags.
#[derive(Debug, Default)]
pub struct NoFlags;

impl FlagSet for NoFlags {
    fn specs() -> Vec<&'static FlagSpec> {
        Vec::new()
    }

    fn set(&mut self, _long: &str, _value: &str) -> Option<Result<(), String>> {
        None
    }
}

/// Two sets as one.
impl<A: FlagSet, B: FlagSet> FlagSet for (A, B) {
    fn specs() -> Vec<&'static FlagSpec> {
        let mut all = A::specs();
        all.extend(B::specs());
        all
    }

    fn set(&mut self, long: &str, value: &str) -> Option<Result<(), String>> {
        self.0.set(long, value).or_else(|| self.1.set(long, value))
    }
}

/// Declares a struct of flags: `field: Type = 'l' "long" <kind> "help";`, where `'-'` means no letter.
#[macro_export]
macro_rules! flags {
    ($(#[$attribute:meta])* pub struct $name:ident {
        $($field:ident : $type:ty = $short:literal $long:literal $(<$kind:ident>)? $help:literal;)*
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Default, Clone)]
        pub struct $name {
            $(
                // Help texts are Docker's, `<id>` and all; they are not HTML.
                #[doc = $help]
                #[allow(rustdoc::invalid_html_tags)]
                pub $field: $type,
            )*
        }

        impl $crate::flags::FlagSet for $name {
            fn specs() -> Vec<&'static $crate::flags::FlagSpec> {
                static SPECS: &[$crate::flags::FlagSpec] = &[$($crate::flags::FlagSpec {
                    long: $long,
                    short: $short,
                    kind: concat!($(stringify!($kind))?),
                    is_switch: <$type as $crate::flags::FlagValue>::IS_SWITCH,
                    help: $help,
                },)*];
                SPECS.iter().collect()
            }

            fn set(&mut self, long: &str, value: &str) -> Option<Result<(), String>> {
                match long {
                    $($long => Some($crate::flags::FlagValue::set(&mut self.$field, value)),)*
                    _ => None,
                }
            }
        }
    };
}
