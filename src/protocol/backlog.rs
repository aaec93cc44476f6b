//! What a pipe or a socket did not take at once.
//!
//! Always: bytes leave in the order in which they came; what has been written is let go while the rest still waits,
//! so that a slow reader costs what it is owed and no more.

use std::io::{self, ErrorKind, IoSlice};

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    /// What stands before it has been written.
    written: usize,
}

/// Parts that are not longer together are written as one: copying them costs less than telling where they are.
const SMALL: usize = 512;

impl Backlog {
    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes its memory will have once so many more wait; 0 if it stays as it is.
    #[must_use]
    pub fn growth(&self, bytes: usize) -> usize {
        super::lines::growth(&self.bytes, bytes, usize::MAX)
    }

    /// These bytes wait behind the others.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes `parts` as far as `write` takes them at once; the rest waits, and all of them behind what waits already.
    ///
    /// # Errors
    /// Those of `write`, except that it would have to wait, or was interrupted: then it is called again.
    pub fn send(
        &mut self,
        parts: &mut [IoSlice<'_>],
        write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > SMALL {
            return self.send_parts(parts, write);
        }
        let mut small = [0; SMALL];
        let mut end = 0;
        for part in parts {
            small[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        self.send_parts(&mut [IoSlice::new(&small[..end])], write)
    }

    fn send_parts(
        &mut self,
        mut parts: &mut [IoSlice<'_>],
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0); // empty ones go
        while self.is_empty() && !parts.is_empty() {
            match write(parts) {
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        for part in parts {
            self.push(part);
        }
        Ok(())
    }

    /// Writes what waits, as far as `write` takes it at once.
    ///
    /// # Errors
    /// As [`Backlog::send`].
    pub fn write(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match write(&self.bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Once it is the larger part: each byte is moved at most once for each that was written.
                    if self.written > self.bytes.len() / 2 {
                        self.bytes.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        *self = Self::default(); // nor is the memory kept
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_however_little_is_taken() {
        let long = "long".repeat(SMALL / 4);
        for most in [1, 2, 5, 100] {
            for pattern in 0..64_u32 {
                let (mut backlog, mut out, mut call) = (Backlog::default(), Vec::new(), 0);
                let mut take = |bytes: &[u8]| {
                    call += 1;
                    match call % 3 {
                        0 => Err(ErrorKind::Interrupted.into()),
                        _ if pattern & (1 << (call % 6)) != 0 => Err(ErrorKind::WouldBlock.into()),
                        _ => {
                            out.extend_from_slice(&bytes[..bytes.len().min(most)]);
                            Ok(bytes.len().min(most))
                        }
                    }
                };
                for text in ["one", "", "two\n", &long, "three"] {
                    let mut parts = [IoSlice::new(b""), IoSlice::new(text.as_bytes()), IoSlice::new(b".")];
                    backlog.send(&mut parts, |parts| take(&parts[0])).unwrap();
                    backlog.write(&mut take).unwrap();
                }
                let waits = backlog.bytes[backlog.written..].to_vec();
                let all = format!("one..two\n.{long}.three.");
                assert_eq!(String::from_utf8([out, waits].concat()).unwrap(), all, "{most} {pattern}");
            }
        }
    }

    #[test]
    fn what_waits_is_let_go_when_it_is_written() {
        let mut backlog = Backlog::default();
        let line = [b'x'; 4096];
        while backlog.len() < 1 << 20 {
            backlog.push(&line);
        }
        // The reader reads as fast as it is written to, so that there is always something waiting.
        for _ in 0..2000 {
            let mut room = line.len();
            let mut take = |bytes: &[u8]| match room {
                0 => Err(ErrorKind::WouldBlock.into()),
                _ => Ok(std::mem::take(&mut room).min(bytes.len())),
            };
            backlog.write(&mut take).unwrap();
            backlog.send(&mut [IoSlice::new(&line)], |parts| take(&parts[0])).unwrap();
            assert!(!backlog.is_empty());
        }
        assert!(backlog.bytes.len() <= 4 << 20, "{} bytes are kept", backlog.bytes.len());
    }

    #[test]
    fn a_failed_write_is_told() {
        let mut backlog = Backlog::default();
        let broken = |_: &[u8]| Err(ErrorKind::BrokenPipe.into());
        assert!(backlog.send(&mut [IoSlice::new(b"x")], |parts| broken(&parts[0])).is_err());
        backlog.push(b"x");
        assert!(backlog.write(broken).is_err());
    }
}
