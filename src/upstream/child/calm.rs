//! When it pays to wait for a server's stdout alone. To begin and to end that costs as much as some dozens of calls save.
//!
//! Always: a server that is not calm (it writes to its stderr with every call) is asked for more calm each time.

/// What a server's thread was woken for lately.
#[derive(Debug)]
pub struct Calm {
    /// How often it must be woken for stdout only, one after the other.
    wanted: u32,
    /// How often it was.
    seen: u32,
    /// Reads since it waits for stdout alone.
    reads: u32,
}

const LEAST_WAKES: u32 = 8;
const MOST_WAKES: u32 = 1024;
/// What was ended before so many reads was not worth it.
const WORTH_READS: u32 = 64;

impl Calm {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self { wanted: LEAST_WAKES, seen: 0, reads: 0 }
    }

    /// The thread was woken, for stdout only or not; says whether that is all there will be, most likely.
    pub fn note_wake(&mut self, only_stdout: bool) -> bool {
        self.seen = if only_stdout { self.seen + 1 } else { 0 };
        self.seen >= self.wanted
    }

    /// While it waits for stdout alone, there was something.
    pub fn note_read(&mut self) {
        self.reads = self.reads.saturating_add(1);
    }

    /// It does not wait for stdout alone any more, or cannot.
    pub fn end(&mut self) {
        let was_worth_it = self.reads >= WORTH_READS;
        let wanted = if was_worth_it { LEAST_WAKES } else { (self.wanted * 2).min(MOST_WAKES) };
        *self = Self { wanted, seen: 0, reads: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many wakes for stdout only it takes.
    fn wakes(calm: &mut Calm) -> usize {
        1 + (0..=MOST_WAKES).take_while(|_| !calm.note_wake(true)).count()
    }

    #[test]
    fn only_stdout_counts() {
        let mut calm = Calm::new();
        assert_eq!(wakes(&mut calm), 8);
        assert!(!calm.note_wake(false));
        assert_eq!(wakes(&mut calm), 8);
    }

    #[test]
    fn what_was_not_worth_it_is_tried_later_each_time() {
        let mut calm = Calm::new();
        for wanted in [8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024] {
            assert_eq!(wakes(&mut calm), wanted);
            (1..WORTH_READS).for_each(|_| calm.note_read());
            calm.end();
        }
        (0..WORTH_READS).for_each(|_| calm.note_read());
        calm.end();
        assert_eq!(wakes(&mut calm), 8);
    }
}
