//! A map by ids that we made of random bytes ourselves: a hash that withstands chosen keys would be of no use, and takes
//! ten times as long. Clients choose only what is looked for.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are random.
pub type ById<V> = HashMap<String, V, BuildHasherDefault<OfRandom>>;

/// The hash of a key that is random already: it need only reach every bit.
#[derive(Debug, Default)]
pub struct OfRandom(u64);

impl Hasher for OfRandom {
    fn write(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.chunks_exact(8);
        for piece in pieces.by_ref() {
            self.add(piece.try_into().map_or(0, u64::from_ne_bytes));
        }
        for byte in pieces.remainder() {
            self.add(u64::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl OfRandom {
    fn add(&mut self, word: u64) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(ODD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, BuildHasherDefault};

    #[test]
    fn both_ends_of_the_hashes_of_ids_differ() {
        let make = BuildHasherDefault::<OfRandom>::default();
        let hashes: Vec<u64> = (0..4096).map(|_| make.hash_one(system::random_id().unwrap())).collect();
        for shift in [0, 16, 32, 48, 57] {
            let different: HashSet<u64> = hashes.iter().map(|hash| (hash >> shift) & 0x7f).collect();
            assert_eq!(different.len(), 128, "the bits from {shift} on");
        }
    }
}
