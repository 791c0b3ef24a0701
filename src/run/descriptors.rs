//! The limit of open files of this process (RLIMIT_NOFILE, getrlimit(2)): raised as far as it may be, and what it leaves for
//! connections.

use anyhow::{Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Open files of a process without nodes: standard streams, signals, the log, files that are read at the moment.
const PROCESS: u64 = 16;
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

    /// The limit of connections of clients: `wanted`, or as many as leave a quarter of the descriptors to connections of this
    /// node's own.
    pub(super) fn connections(self, wanted: usize, threads: usize) -> usize {
        let free = self.0.saturating_sub(least(threads, threads));
        let most = usize::try_from(free / 4 * 3).unwrap_or(usize::MAX).max(1);
        if most < wanted {
            let limit = self.0;
            warn!(
                "this process may open {limit} files (ulimit -n), which is enough for {most} connections of clients, \
                 not for {wanted} (--max-connections)"
            );
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

    #[test]
    fn connections_leave_room_for_the_rest() {
        assert_eq!(Descriptors::default().connections(10_000, 64), 10_000);
        assert_eq!(Descriptors(20_000).connections(10_000, 2), 10_000);
        assert_eq!(Descriptors(1024).connections(10_000, 2), (1024 - 26) / 4 * 3);
        assert_eq!(Descriptors(20).connections(10_000, 2), 1);
        assert!(Descriptors(26).suffice(2, 2).is_ok() && Descriptors(25).suffice(2, 2).is_err());
    }
}
