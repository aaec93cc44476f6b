//! Whether one connection alone asks a server, one request after the other.

/// Who has asked last, and how often in a row.
#[derive(Debug, Default)]
pub struct Alone {
    connection: u64,
    /// How many requests the server had been sent then, by whomever.
    sent: u32,
    calls: u32,
}

impl Alone {
    /// A connection has asked, and the server has been sent so many requests in all; says how often it has in a row.
    pub fn ask(&mut self, connection: u64, sent: u32) -> u32 {
        let is_next = connection == self.connection && sent.wrapping_sub(self.sent) <= 1;
        let calls = if is_next { self.calls.saturating_add(1) } else { 1 };
        *self = Self { connection, sent, calls };
        calls
    }

    /// From here on it is counted anew.
    pub const fn forget(&mut self) {
        self.calls = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_others_in_between_end_a_row() {
        let mut alone = Alone::default();
        // The connection, how many requests were sent in all, and which in the row it is.
        for (connection, sent, calls) in [
            (1, 1, 1),
            (1, 2, 2),
            (1, 3, 3),
            (1, 3, 4), // we have answered it ourselves
            (1, 4, 5),
            (2, 5, 1),
            (2, 6, 2),
            (2, 8, 1), // somebody has asked who does not say so
            (2, 9, 2),
            (1, 10, 1),
            (2, 11, 1),
            (2, u32::MAX, 1),
            (2, 0, 2),
        ] {
            assert_eq!(alone.ask(connection, sent), calls, "{connection} {sent}");
        }
        alone.forget();
        assert_eq!(alone.ask(2, 1), 1);
    }
}
