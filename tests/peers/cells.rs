//! Fills the cells of a matrix, a few at the same time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many cells are filled at the same time.
const SIDE_BY_SIDE: usize = 3;

/// What came of a cell: how many features worked, or what did not.
pub type Filled = Result<usize, String>;

/// Fills every cell and returns them in their order.
pub fn fill_all<C: Copy + Send + Sync + 'static>(wanted: &[C], fill: fn(C) -> Filled) -> Vec<(C, Filled)> {
    let next = AtomicUsize::new(0);
    let filled = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, cell)) = taken(wanted, &next) {
            let came = fill_one(cell, fill);
            filled.lock().expect("no panic").push((index, (cell, came)));
        }
    };
    thread::scope(|scope| (0..SIDE_BY_SIDE).for_each(|_| drop(scope.spawn(work))));
    let mut filled = filled.into_inner().expect("no panic");
    filled.sort_by_key(|(index, _)| *index);
    filled.into_iter().map(|(_, cell)| cell).collect()
}

/// The next cell and its place.
fn taken<C: Copy>(wanted: &[C], next: &AtomicUsize) -> Option<(usize, C)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    wanted.get(index).map(|cell| (index, *cell))
}

/// Fills a cell; a panic, say of a server that never listened, fails it alone.
fn fill_one<C: Send + 'static>(cell: C, fill: fn(C) -> Filled) -> Filled {
    thread::spawn(move || fill(cell)).join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "panicked".to_owned()))
    })
}
