//! What all bodies that are being read may take together: what one client may send, many must not be able to send at
//! the same time until the memory is full.
//!
//! Always: what a body has taken is given back when it was handed over or its connection ends, however that comes;
//! a body of at most [`FREE_BYTES`] takes nothing, so that usual calls pass when nothing is left; who was given
//! something keeps it, and who asks for more than is left is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bodies of the greatest length may be on their way at the same time.
const BODIES: usize = 4;
/// A body of this size is never counted.
const FREE_BYTES: usize = 64 << 10;

/// What is there for the bodies of all connections.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    taken: AtomicUsize,
}

impl Budget {
    /// A budget for bodies of at most `body_bytes` each.
    #[must_use]
    pub fn new(body_bytes: usize) -> Self {
        Self { bytes: body_bytes.saturating_mul(BODIES), taken: AtomicUsize::new(0) }
    }

    /// How many bytes all have taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, or none if there are not so many left.
    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= self.bytes);
        // Only the number matters: no memory is handed from one thread to another by it.
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// What one body has taken.
#[derive(Debug, Default)]
pub struct Taken(Option<(Arc<Budget>, usize)>);

impl Taken {
    /// The body needs this memory now, in all; says whether it may have it. Short ones do not look at the budget.
    #[must_use]
    pub fn cover(&mut self, budget: &Arc<Budget>, bytes: usize) -> bool {
        if bytes <= FREE_BYTES {
            return true;
        }
        let (budget, taken) = self.0.get_or_insert_with(|| (budget.clone(), 0));
        let may = bytes <= *taken || budget.take(bytes - *taken);
        if may {
            *taken = bytes.max(*taken);
        }
        may
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some((budget, taken)) = &self.0 {
            budget.taken.fetch_sub(*taken, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// What is left of the budget.
    fn left(budget: &Budget) -> usize {
        budget.bytes - budget.taken.load(Ordering::Relaxed)
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let budget = Arc::new(Budget::new(100_000));
        let mut all: Vec<Taken> = (0..5).map(|_| Taken::default()).collect();
        for one in &mut all[..4] {
            assert!(one.cover(&budget, 70_000) && one.cover(&budget, 100_000) && one.cover(&budget, 80_000));
        }
        assert_eq!(left(&budget), 0);
        assert!(all[4].cover(&budget, FREE_BYTES) && !all[4].cover(&budget, FREE_BYTES + 1));
        assert!(!all[3].cover(&budget, 100_001), "nobody has more than there is");
        drop(all.pop());
        assert_eq!(left(&budget), 0, "who was refused has nothing to give back");
        all.pop();
        assert_eq!(left(&budget), 100_000);
        assert!(Taken::default().cover(&budget, 100_000));
        drop(all);
        assert_eq!(left(&budget), 400_000);
    }

    #[test]
    fn a_thread_that_fails_gives_back_what_it_took() {
        let budget = Arc::new(Budget::new(100_000));
        let taken = budget.clone();
        let failed = thread::spawn(move || {
            let mut one = Taken::default();
            assert!(one.cover(&taken, 100_000));
            std::panic::resume_unwind(Box::new(())); // nothing is written to stderr
        });
        assert!(failed.join().is_err());
        assert_eq!(left(&budget), 400_000);
    }

    #[test]
    fn the_greatest_limit_is_one_too() {
        let budget = Arc::new(Budget::new(usize::MAX));
        let (mut one, mut other) = (Taken::default(), Taken::default());
        assert!(one.cover(&budget, usize::MAX) && !other.cover(&budget, FREE_BYTES + 1));
    }
}
