//! The locks of `flight`. A test puts others in their place, under which every order of threads is tried.

pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
