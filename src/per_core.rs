//! Values kept once per core: cores that count, or that hold a lock, do not wait for each other's cache lines.
//!
//! Each core runs one thread with a runtime of its own (see `cores`). That thread says its index once with
//! [`set_core_index`]; every other thread is index 0. The index is a hint: a [`PerCore`] is correct from any thread.

use std::cell::Cell;

thread_local! {
    static CORE: Cell<usize> = const { Cell::new(0) };
}

/// Marks this thread as the one that runs the runtime of core `index`.
pub fn set_core_index(index: usize) {
    CORE.set(index);
}

/// One `T` per core. With more cores than values, cores share them.
#[derive(Clone, Debug)]
pub struct PerCore<T>(Box<[Padded<T>]>);

/// Two cache lines: processors fetch them in pairs.
#[derive(Clone, Debug)]
#[repr(align(128))]
struct Padded<T>(T);

/// Values of a [`PerCore`] that is made without a number of cores.
const DEFAULT_CORES: usize = 16;

impl<T> PerCore<T> {
    /// `cores` values, at least one.
    pub fn new(cores: usize, mut value: impl FnMut() -> T) -> Self {
        Self((0..cores.max(1)).map(|_| Padded(value())).collect())
    }

    /// The value of this thread's core.
    pub fn here(&self) -> &T {
        let (index, cores) = (CORE.get(), self.0.len());
        // The comparison is predicted, a division would be waited for.
        &self.0[if index < cores { index } else { index % cores }].0
    }

    /// The values of all cores.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }

    /// The values of all cores, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|padded| &mut padded.0)
    }

    /// The number of values.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl<T: Default> Default for PerCore<T> {
    fn default() -> Self {
        Self::new(DEFAULT_CORES, T::default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_core_has_its_value_and_those_beyond_share() {
        let values = PerCore::new(3, || Cell::new(0));
        for index in [0, 2, 3, 5] {
            set_core_index(index);
            values.here().set(values.here().get() + 1);
        }
        set_core_index(0);
        assert_eq!(values.iter().map(Cell::get).collect::<Vec<_>>(), [2, 0, 2]);
    }

    #[test]
    fn there_is_always_a_value() {
        assert_eq!(PerCore::new(0, || 7).here(), &7);
    }

    #[test]
    fn values_of_two_cores_are_on_different_cache_lines() {
        let values: PerCore<u8> = PerCore::default();
        let places: Vec<_> = values.iter().map(|value| std::ptr::from_ref(value).addr()).collect();
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 128));
    }
}
