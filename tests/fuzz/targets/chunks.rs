//! Chunked bodies, against the most lenient reader there may be before us: where ours finds an end, it finds the same
//! one, and the same body. The first byte says how long a body may be.

use mcp_proxy::protocol::chunks::{Chunks, Fault};

pub fn check(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let limit = usize::from(*first);
    let whole = read(&[text], limit);
    assert_eq!(read(&super::pieces(text), limit), whole, "in some pieces");
    assert_eq!(read(&text.chunks(1).collect::<Vec<_>>(), limit), whole, "byte by byte");
    if let Ok(Some((body, left))) = whole {
        assert!(body.len() <= limit);
        assert_eq!(lenient(text), Some((body, left)), "another reader finds something else");
    }
}

/// The body, and how many bytes are left behind it; `None` while it is not over.
fn read(pieces: &[&[u8]], limit: usize) -> Result<Option<(Vec<u8>, usize)>, Fault> {
    let mut chunks = Chunks::new(limit);
    let (mut buffer, mut is_over) = (Vec::new(), false);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if !is_over {
            let used = chunks.feed(&buffer)?;
            buffer.drain(..used);
            is_over = chunks.is_over();
        }
    }
    Ok(is_over.then(|| (chunks.into_body(), buffer.len())))
}

/// Lines end with LF, whatever stands before it; a size is the digits it begins with.
pub fn lenient(mut text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let line = line(&mut text)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(std::str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            while !self::line(&mut text)?.is_empty() {}
            return Some((body, text.len()));
        }
        body.extend_from_slice(text.get(..size)?);
        text = &text[size..];
        assert!(self::line(&mut text)?.is_empty(), "a line end is behind each chunk");
    }
}

fn line<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let line = &text[..end];
    *text = &text[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}
