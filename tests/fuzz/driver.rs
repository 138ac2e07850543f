//! Runs fuzz targets without a fuzzer: the same functions, fed with mutations of seeds that are the same in every
//! run. It finds what is near to real input; the fuzzer goes further.
//!
//! Each crate's `tests/fuzz.rs` takes this file in, names itself `libfuzzer_sys`, and takes in its fuzz targets.

/// Mutations of each seed; `FERRY_FUZZ_ROUNDS` asks for more.
const ROUNDS: usize = 1000;

/// What a fuzz target takes, made of bytes.
pub trait Input<'a>: Sized {
    /// `None` where the bytes are none such.
    fn of(bytes: &'a [u8]) -> Option<Self>;
}

impl<'a> Input<'a> for &'a [u8] {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        Some(bytes)
    }
}

impl<'a> Input<'a> for &'a str {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()
    }
}

/// `NUMBER|TEXT`.
impl<'a> Input<'a> for (u64, &'a str) {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (number, text) = std::str::from_utf8(bytes).ok()?.split_once('|')?;
        Some((number.parse().ok()?, text))
    }
}

/// A small generator with a fixed beginning.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn mutate(&mut self, seed: &[u8], pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                2 if at < bytes.len() => drop(bytes.drain(at..bytes.len().min(at + 1 + self.below(40)))),
                3 => {
                    let end = bytes.len().min(at + self.below(60));
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                4 if at < bytes.len() => {
                    const EDGES: [u8; 8] = [0, 1, b'-', b'/', b'9', 0x7f, 0x80, 0xff];
                    bytes[at] = EDGES[self.below(EDGES.len())];
                }
                _ => {
                    let piece = pieces[self.below(pieces.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
        bytes
    }
}

/// Feeds a target with its seeds and their mutations, into which `pieces` that mean something are put.
pub fn feed(mut target: impl FnMut(&[u8]), seeds: &[&[u8]], pieces: &[&[u8]]) {
    let asked = std::env::var("FERRY_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for seed in seeds {
        target(seed);
        for _ in 0..asked.unwrap_or(ROUNDS) {
            let bytes = numbers.mutate(seed, pieces);
            let shown = Shown(&bytes);
            target(&bytes);
            std::mem::forget(shown);
        }
    }
}

/// Says what was fed where the target panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        eprintln!("fed: {:?}", String::from_utf8_lossy(self.0));
    }
}

/// In the place of the fuzzer's macro of this name: the target as a function of bytes.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $type:ty| $body:block) => {
        /// The target.
        pub fn target(bytes: &[u8]) {
            let run = |$input: $type| $body;
            if let Some(input) = $crate::driver::Input::of(bytes) {
                run(input);
            }
        }
    };
}
