//! Fills the cells of a matrix: those of a row one after another, a few rows at the same time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many rows are filled at the same time.
const SIDE_BY_SIDE: usize = 3;

/// What came of a cell: how many features worked, or what did not.
pub type Filled = Result<usize, String>;

/// Fills every row, `start` giving what all its cells use, and returns the cells in their order.
pub fn fill_all<C, S>(rows: &[Vec<C>], start: fn(&[C]) -> S, fill: fn(C, &S) -> Filled) -> Vec<(C, Filled)>
where
    C: Copy + Sync + Send,
{
    let next = AtomicUsize::new(0);
    let filled = Mutex::new(Vec::new());
    let work = || {
        while let Some((index, row)) = taken(rows, &next) {
            let came = fill_row(row, start, fill);
            filled.lock().expect("no panic").push((index, came));
        }
    };
    thread::scope(|scope| (0..SIDE_BY_SIDE).for_each(|_| drop(scope.spawn(work))));
    let mut filled = filled.into_inner().expect("no panic");
    filled.sort_by_key(|(index, _)| *index);
    filled.into_iter().flat_map(|(_, cells)| cells).collect()
}

/// The next row and its place.
fn taken<'a, C>(rows: &'a [Vec<C>], next: &AtomicUsize) -> Option<(usize, &'a [C])> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    rows.get(index).map(|row| (index, &**row))
}

/// Fills the cells of a row. A panic, say of a server that never listened, fails what needs it alone.
fn fill_row<C: Copy, S>(row: &[C], start: fn(&[C]) -> S, fill: fn(C, &S) -> Filled) -> Vec<(C, Filled)> {
    let server = caught(|| Ok(start(row)));
    let one = |cell| match &server {
        Ok(server) => caught(|| fill(cell, server)),
        Err(why) => Err(why.clone()),
    };
    row.iter().map(|cell| (*cell, one(*cell))).collect()
}

/// What is done, or the words of its panic.
fn caught<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "panicked".to_owned()))
    })
}
