//! Ids that only the one who was given them can know: a number, and what a secret makes of it (`SipHash-2-4`).
//!
//! Always: who knows any number of tickets can make no other.

use std::fmt;

/// Makes tickets and knows them again.
#[derive(Clone)]
pub struct Tickets {
    key: [u64; 2],
}

impl fmt::Debug for Tickets {
    /// Shows no secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets of a secret, which is as hard to guess as they shall be.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let half = |at: u8| sip([0, u64::from(at)], secret.as_bytes());
        Self { key: [half(1), half(2)] }
    }

    /// The ticket with this number.
    #[must_use]
    pub fn make(&self, number: u64) -> String {
        let half = |at: u8| sip(self.key, &[&number.to_le_bytes()[..], &[at]].concat());
        format!("{number}-{:016x}{:016x}", half(1), half(2))
    }

    /// The number of a ticket; `None` where it is none of ours.
    #[must_use]
    pub fn number(&self, ticket: &str) -> Option<u64> {
        let number = ticket.split('-').next()?.parse().ok()?;
        let wanted = self.make(number);
        // In a time that tells nothing about where they differ.
        let differs = wanted.bytes().zip(ticket.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        (wanted.len() == ticket.len() && differs == 0).then_some(number)
    }
}

/// `SipHash-2-4` (Aumasson and Bernstein, 2012).
fn sip([k0, k1]: [u64; 2], text: &[u8]) -> u64 {
    let start = [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    let mut v = [k0 ^ start[0], k1 ^ start[1], k0 ^ start[2], k1 ^ start[3]];
    let words = text.chunks_exact(8);
    let rest = words.remainder();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = u8::try_from(text.len() & 0xff).unwrap_or(0);
    for word in words.chain([&last[..]]) {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_paper() {
        let text: Vec<u8> = (0..15).collect();
        assert_eq!(sip([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908], &text), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn a_ticket_is_known_again_and_no_other() {
        let (tickets, others) = (Tickets::new("secret"), Tickets::new("another"));
        let ticket = tickets.make(7);
        assert_eq!(tickets.number(&ticket), Some(7));
        assert_eq!(others.number(&ticket), None);
        assert_eq!(tickets.number(&ticket.replacen('7', "8", 1)), None);
        assert_eq!(tickets.number(&ticket.replacen('7', "07", 1)), None);
        for text in ["", "7", "7-", "x-1", &ticket[..ticket.len() - 1], &format!("{ticket}0"), &format!("+{ticket}")] {
            assert_eq!(tickets.number(text), None, "{text}");
        }
    }
}
