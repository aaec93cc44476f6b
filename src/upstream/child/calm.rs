//! When it pays to wait for a server's stdout alone, or to let others read it. To begin and to end that costs as much as
//! some dozens of calls save.
//!
//! Always: what was not worth it (the server writes to its stderr with every call, its client pauses after each) is begun
//! later each time.

/// How much must speak for something that is not always worth it.
#[derive(Debug)]
pub struct Patience {
    /// What was ended after fewer uses was not worth it.
    worth: u32,
    wanted: u32,
}

/// What a server's thread was woken for lately.
#[derive(Debug)]
pub struct Calm {
    patience: Patience,
    /// How often it was woken for stdout only, one after the other.
    seen: u32,
    /// Reads since it waits for stdout alone.
    reads: u32,
}

const LEAST_WANTED: u32 = 8;
const MOST_WANTED: u32 = 1024;
const WORTH_READS: u32 = 64;

impl Patience {
    /// Nothing is known.
    pub const fn new(worth: u32) -> Self {
        Self { worth, wanted: LEAST_WANTED }
    }

    /// Whether so many signs in a row are enough.
    pub const fn is_enough(&self, signs: u32) -> bool {
        signs >= self.wanted
    }

    /// It was ended after so many uses.
    pub fn end(&mut self, uses: u32) {
        self.wanted = if uses >= self.worth { LEAST_WANTED } else { (self.wanted * 2).min(MOST_WANTED) };
    }
}

impl Calm {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self { patience: Patience::new(WORTH_READS), seen: 0, reads: 0 }
    }

    /// The thread was woken, for stdout only or not; says whether that is all there will be, most likely.
    pub fn note_wake(&mut self, only_stdout: bool) -> bool {
        self.seen = if only_stdout { self.seen + 1 } else { 0 };
        self.patience.is_enough(self.seen)
    }

    /// While only stdout was waited for, it had something to say so many times.
    pub const fn note_reads(&mut self, reads: u32) {
        self.reads = self.reads.saturating_add(reads);
    }

    /// Stdout is not all that is waited for any more, or cannot be.
    pub fn end(&mut self) {
        self.patience.end(self.reads);
        (self.seen, self.reads) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many wakes for stdout only it takes.
    fn wakes(calm: &mut Calm) -> usize {
        1 + (0..=MOST_WANTED).take_while(|_| !calm.note_wake(true)).count()
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
            calm.note_reads(WORTH_READS - 1);
            calm.end();
        }
        calm.note_reads(WORTH_READS);
        calm.end();
        assert_eq!(wakes(&mut calm), 8);
    }
}
