//! Revisions of MCP, as the header `MCP-Protocol-Version` names them: `YYYY-MM-DD`, in the order of time.

use super::Refusal;
use std::fmt;
use std::str::FromStr;
use ureq_proto::http::StatusCode;

/// A revision of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    year: u16,
    month: u8,
    day: u8,
}

/// The revisions that begin with `initialize`.
const LEGACY: [Revision; 4] = [day(2024, 11, 5), day(2025, 3, 26), day(2025, 6, 18), PRIMING];
/// The first whose clients take an empty event (2025-11-25, `basic/transports`, "Sending Messages to the Server").
const PRIMING: Revision = day(2025, 11, 25);
/// The first without `initialize` and sessions.
const MODERN: Revision = day(2026, 7, 28);

const fn day(year: u16, month: u8, day: u8) -> Revision {
    Revision { year, month, day }
}

impl Revision {
    /// Whether its clients expect that a stream begins with an empty event that has an id.
    #[must_use]
    pub fn knows_priming(self) -> bool {
        self >= PRIMING
    }

    /// Whether its requests stand alone, without `initialize` and sessions.
    #[must_use]
    pub fn is_modern(self) -> bool {
        self >= MODERN
    }

    /// Whether a text names a revision whose requests stand alone.
    #[must_use]
    pub fn names_modern(text: &str) -> bool {
        text.parse().is_ok_and(Self::is_modern)
    }

    /// Reads the value of `MCP-Protocol-Version`. A revision that is later than all we know is good enough: client
    /// and server have agreed on it, and we only relay.
    ///
    /// # Errors
    /// It is no revision, or one that never was.
    pub(super) fn of_header(value: &str) -> Result<Self, Refusal> {
        let revision: Option<Self> = value.parse().ok();
        let known = revision.filter(|revision| LEGACY.contains(revision) || *revision > PRIMING);
        known.ok_or_else(|| {
            let known = LEGACY.map(|revision| revision.to_string()).join(", ");
            let reason = format!("the MCP-Protocol-Version is not supported; supported are {known}");
            Refusal::new(StatusCode::BAD_REQUEST, &reason)
        })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl FromStr for Revision {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let shape = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
        if text.len() != 10 || !text.bytes().enumerate().all(shape) {
            return Err(());
        }
        let part = |range| text.get(range).and_then(|digits: &str| digits.parse().ok()).ok_or(());
        let (month, date) = (part(5..7)?, part(8..10)?);
        let year = text[..4].parse().map_err(|_| ())?;
        if (1..=12).contains(&month) && (1..=31).contains(&date) { Ok(day(year, month, date)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_later_revisions_are_taken() {
        for (value, taken) in [
            ("2024-11-05", true),
            ("2025-03-26", true),
            ("2025-06-18", true),
            ("2025-11-25", true),
            ("2025-11-26", true),
            ("2026-07-28", true),
            ("2999-12-31", true),
            ("1999-01-01", false),
            ("2025-06-19", false),
            ("2026-13-01", false),
            ("2026-00-01", false),
            ("2026-01-32", false),
            ("2026-1-01", false),
            ("2026-01-011", false),
            ("2026/01/01", false),
            ("+026-01-01", false),
            ("2026-01-0é", false),
            ("latest", false),
            ("", false),
        ] {
            let read = Revision::of_header(value);
            assert_eq!(read.is_ok(), taken, "{value}");
            if let Ok(revision) = read {
                assert_eq!(revision.to_string(), value);
            }
        }
        let refusal = Revision::of_header("x").unwrap_err();
        assert_eq!((refusal.status, refusal.code), (StatusCode::BAD_REQUEST, -32600));
        assert!(refusal.reason.ends_with("2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25"), "{}", refusal.reason);
    }

    #[test]
    fn what_a_revision_knows() {
        for (value, primes, modern) in [
            ("2024-11-05", false, false),
            ("2025-03-26", false, false),
            ("2025-06-18", false, false),
            ("2025-11-25", true, false),
            ("2026-07-27", true, false),
            ("2026-07-28", true, true),
            ("2027-01-01", true, true),
        ] {
            let revision: Revision = value.parse().unwrap();
            assert_eq!((revision.knows_priming(), revision.is_modern()), (primes, modern), "{value}");
        }
    }
}
