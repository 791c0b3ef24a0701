//! METRICS as every view of a node reads them; the terminal view and the live page only render what is here.
//!
//! ```text
//!   METRICS ──▶ sample: one shape for every role ──▶ tracks: growth since the sample before, and over ten seconds
//!           └─▶ busiest: the prefixes and keys with the most requests
//! ```
//! Pure: the time is an argument.

mod busiest;
mod counters;
mod heard;
mod sample;
mod tracks;
mod window;

pub use self::busiest::{Busy, busiest};
pub use self::counters::{Counters, Reported};
pub use self::sample::{NodeHealth, NodeSample, Sample};
pub use self::tracks::{Growth, Track, Tracks};
pub use self::window::SlidingWindow;
