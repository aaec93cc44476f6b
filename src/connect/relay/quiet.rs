//! Whether the client says anything while its request is open.

/// When so many requests were answered in a row and nothing else was seen, most likely nothing comes during the next one.
/// Every so many requests we look from the beginning whether that is so still; an odd number, so that clients whose
/// requests come in pairs are found out.
const REQUESTS: u32 = 17;

/// How many requests were answered in a row while nothing else was seen.
#[derive(Debug, Default)]
pub struct Quiet(u32);

impl Quiet {
    /// Nothing else was seen before a request was answered.
    pub fn note_answered(&mut self) {
        self.0 = if self.0 + 1 == 2 * REQUESTS { REQUESTS } else { self.0 + 1 };
    }

    /// Something came meanwhile.
    pub const fn note_more(&mut self) {
        self.0 = 0;
    }

    /// Whether it is soon enough to look for more a moment after the next request was sent.
    pub const fn is_likely(&self) -> bool {
        self.0 > REQUESTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_likely_after_a_while_and_looked_at_now_and_then() {
        let mut quiet = Quiet::default();
        for _ in 0..2 {
            for request in 0..10_000 {
                assert_eq!(quiet.is_likely(), request > REQUESTS && request % REQUESTS != 0, "{request}");
                quiet.note_answered();
            }
            quiet.note_more();
        }
    }
}
