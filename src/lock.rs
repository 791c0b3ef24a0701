//! Locking a mutex that guards state which is never left half changed.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whether or not another thread panicked while it held the lock.
///
/// Only for state that is changed in steps which cannot panic half way: a panic elsewhere costs one connection, and must
/// not cost everyone who needs the lock after it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
