//! The numbers of this process that every client library of Prometheus reports, by the same names.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// The numbers; each is `None` where the kernel does not tell it.
#[derive(Default, Debug)]
pub(super) struct Process {
    /// Seconds of all processors, in user and in kernel mode.
    pub(super) cpu: Option<f64>,
    /// Seconds since 1970.
    pub(super) start: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) resident: Option<u64>,
    pub(super) virtual_memory: Option<u64>,
}

impl Process {
    /// The numbers of this moment.
    pub(super) fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().map(|ticks| ticks as f64);
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| u64::try_from(page).ok());
        let field = |number: usize| field(&stat, number);
        let seconds = |number: usize| Some(field(number)? as f64 / ticks?);
        Self {
            cpu: seconds(14).zip(seconds(15)).map(|(user, system)| user + system),
            start: seconds(22).zip(boot()).map(|(since_boot, boot)| boot + since_boot),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64),
            max_fds: max_fds(),
            resident: field(24).zip(page).map(|(pages, page)| pages * page),
            virtual_memory: field(23),
        }
    }
}

/// A number of `/proc/self/stat`, counted from 1 as proc(5) does. The second one, a name, may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    let behind_name = stat.rsplit_once(") ")?.1;
    behind_name.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

/// When the machine started, in seconds since 1970.
fn boot() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// The limit of open files: the soft one.
fn max_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_kernel_tells_every_number() {
        let process = Process::now();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let start = process.start.unwrap();
        assert!((now - 86_400.0..=now + 2.0).contains(&start), "{start} at {now}");
        assert!(process.cpu.is_some_and(|cpu| cpu < 3600.0));
        assert!(process.open_fds.unwrap() > 2 && process.max_fds.unwrap() >= process.open_fds.unwrap());
        let resident = process.resident.unwrap();
        assert!(resident > 1 << 20 && resident < process.virtual_memory.unwrap());
        assert_eq!(field("7 (a) b) S 1 2", 3), None, "a letter");
        assert_eq!(field("7 (a) b) S 1 2", 5), Some(2));
    }
}
