//! Chance that can be repeated: the same seed gives the same numbers.

/// A stream of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The seed that `FAULTS_SEED` names, or this one.
    pub fn from_environment(fixed: u64) -> Self {
        Self(std::env::var("FAULTS_SEED").map_or(fixed, |seed| seed.parse().expect("FAULTS_SEED is a number")))
    }

    /// Its value, to be printed.
    pub fn value(&self) -> u64 {
        self.0
    }

    /// Another stream, told apart by a number.
    pub fn branch(&self, number: u64) -> Self {
        let mut other = Self(self.0 ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        other.next();
        other
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() { None } else { all.get(usize::try_from(self.below(all.len() as u64)).unwrap()) }
    }
}
