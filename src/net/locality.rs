//! Which core's runtime a thread is: sessions to a peer are kept one per core, so that callers and the session that
//! carries their requests run on one thread and wake each other without the kernel.

use std::cell::Cell;

thread_local! {
    static CORE: Cell<usize> = const { Cell::new(0) };
}

/// The number of this thread's core; 0 unless it was set. A hint for locality: nothing depends on it for being right.
pub fn core_index() -> usize {
    CORE.get()
}

/// Says that this thread runs the runtime of core `index`.
pub fn set_core_index(index: usize) {
    CORE.set(index);
}
