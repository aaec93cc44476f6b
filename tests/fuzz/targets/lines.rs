//! Line framing, against splitting the whole text at once. The first byte says how long a line may be.

use mcp_proxy::protocol::lines::{Line, Lines};

/// A line, or how long one was that is too long.
type Found = Result<Vec<u8>, usize>;

pub fn check(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let limit = usize::from(first % 32);
    let wanted = wanted(text, limit);
    assert_eq!(found(&[text], limit), wanted, "in one piece");
    assert_eq!(found(&super::pieces(text), limit), wanted, "in some pieces");
    assert_eq!(found(&text.chunks(1).collect::<Vec<_>>(), limit), wanted, "byte by byte");
}

fn found(pieces: &[&[u8]], limit: usize) -> Vec<Found> {
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    let take = |line| match line {
        Line::Complete(bytes) => Ok(bytes),
        Line::TooLong { bytes, .. } | Line::NoRoom { bytes, .. } => Err(bytes),
    };
    for piece in pieces {
        lines.feed(piece, |line| found.push(take(line)));
    }
    found.extend(lines.finish().map(take));
    assert!(lines.finish().is_none(), "the end came before");
    found
}

fn wanted(text: &[u8], limit: usize) -> Vec<Found> {
    let mut wanted = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limit {
            wanted.push(Err(line.len()));
        } else if !line.trim_ascii().is_empty() {
            wanted.push(Ok(line.to_vec()));
        }
    }
    wanted
}
