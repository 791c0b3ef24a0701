//! The locks of `flight`. A test puts those of a scheduler in their place, and tries thousands of orders of threads.

pub(super) use std::sync::Mutex;

pub(super) use crate::lock::lock;
