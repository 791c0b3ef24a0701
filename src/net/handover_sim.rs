//! No port is handed over in the simulation.

use super::transport::Listener;

/// Does nothing.
pub(crate) fn leave(_listener: &Listener, _ours: usize) {}

/// Does nothing.
pub(crate) fn close(_listener: &Listener, _ours: usize) {}
