//! The limit of open files of this process (RLIMIT_NOFILE, getrlimit(2)): raised as far as it may be, and what it leaves for
//! connections.

use anyhow::{Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::net::accept::connections_within;

/// Open files of a process without nodes: standard streams, signals, the log, files that are read at the moment.
const PROCESS: u64 = 16;
/// So few connections are worth a warning, whatever was asked for.
const FEW: usize = 1000;
/// Open files of one runtime.
const RUNTIME: u64 = 4;

/// The number of files that this process may open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Descriptors(u64);

impl Default for Descriptors {
    /// No limit.
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl Descriptors {
    /// Raises the limit to the most that this process may set, and returns it.
    pub(super) fn raise() -> Self {
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Self::default() };
        // Refused, or not needed: the limit stays.
        let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        Self(if is_raised { hard } else { soft })
    }

    /// The limit of connections of clients at each of the front ends: `wanted`, or as many as leave a quarter of the
    /// descriptors to connections of the nodes' own, and each front end its reserve.
    pub(super) fn connections(self, wanted: usize, threads: usize, front_ends: usize) -> usize {
        let free = self.0.saturating_sub(least(threads, threads * front_ends));
        let share = usize::try_from(free / 4 * 3).unwrap_or(usize::MAX) / front_ends.max(1);
        let most = connections_within(share);
        if most < wanted {
            let limit = self.0;
            let told = format!(
                "this process may open {limit} files (ulimit -n), which is enough for {most} connections of clients \
                 at each of its {front_ends} front ends, not for {wanted} (--max-connections)"
            );
            // The default of --max-connections is more than most nodes will ever have.
            if most < FEW { warn!("{told}") } else { info!("{told}") }
        }
        wanted.min(most)
    }

    /// Fails if there are too few for `threads` that serve `listeners` together.
    pub(super) fn suffice(self, threads: usize, listeners: usize) -> Result<()> {
        let (limit, least) = (self.0, least(threads, listeners));
        if limit < least {
            bail!(
                "this process may open {limit} files, and needs {least} at least; allow more with ulimit -n, or take fewer --threads"
            );
        }
        Ok(())
    }
}

fn least(threads: usize, listeners: usize) -> u64 {
    PROCESS + RUNTIME * threads as u64 + listeners as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::accept::reserve;

    #[test]
    fn connections_leave_room_for_the_rest() {
        assert_eq!(Descriptors::default().connections(10_000, 64, 2), 10_000);
        assert_eq!(Descriptors(20_000).connections(10_000, 2, 1), 10_000);
        assert_eq!(Descriptors(1024).connections(10_000, 2, 1), (1024 - 26) / 4 * 3 * 4 / 5);
        assert_eq!(Descriptors(20).connections(10_000, 2, 1), 1);
        assert!(Descriptors(26).suffice(2, 2).is_ok() && Descriptors(25).suffice(2, 2).is_err());
    }

    #[test]
    fn front_ends_and_their_reserves_share_what_there_is() {
        for (limit, front_ends) in [(64, 2), (256, 6), (1024, 2), (1024, 6), (4096, 6), (65_536, 6)] {
            let each = Descriptors(limit).connections(usize::MAX, 2, front_ends);
            let all = front_ends * (each + reserve(each));
            let most = (limit - least(2, 2 * front_ends)) / 4 * 3;
            assert!(all as u64 <= most, "{all} of {limit} for {front_ends}");
            assert!(all as u64 * 10 >= most * 8, "{all} of {limit} for {front_ends}");
        }
    }
}
