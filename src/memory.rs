//! The memory that this process may use, and the shares of it that are the defaults of `--max-unread` and `--max-bytes`.
//!
//! Control groups limit a process from within its own group and from every group above it, and the kernel kills what goes
//! beyond. Version 2 has `memory.max` and `memory.high` (Documentation/admin-guide/cgroup-v2.rst), version 1
//! `memory.limit_in_bytes`; within a container the path of the group may be one of the host's, of which only the root is
//! there. Without a limit all memory of the machine counts. Files are read by the caller.

use std::fmt;

/// Where the kernel shows the groups of version 2, and those of the memory controller of version 1.
const V2: &str = "/sys/fs/cgroup";
const V1: &str = "/sys/fs/cgroup/memory";
/// Version 1 writes "no limit" as the largest multiple of a page: no machine has as much.
const NO_LIMIT: u64 = 1 << 60;

/// The most that is ever chosen.
const MOST: usize = 256 << 20;
/// The least: a share of less memory than any node could live in.
const LEAST: usize = 1 << 20;

/// What sets the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Cgroup,
    Machine,
    /// Neither could be read.
    Unknown,
}

/// The memory of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    bytes: u64,
    source: Source,
}

impl Default for Memory {
    /// Memory of which nothing is known.
    fn default() -> Self {
        Self { bytes: u64::MAX, source: Source::Unknown }
    }
}

impl Memory {
    /// The memory of this process. `read` returns the text of a file, if it can be read.
    pub fn find(read: impl Fn(&str) -> Option<String>) -> Self {
        let machine = read("/proc/meminfo").and_then(|text| total(&text));
        let groups = read("/proc/self/cgroup").unwrap_or_default();
        let limits = groups.lines().filter_map(|line| group_limit(line, &read)).min();
        match (limits, machine) {
            (Some(limit), machine) if machine.is_none_or(|all| limit < all) => {
                Self { bytes: limit, source: Source::Cgroup }
            }
            (_, Some(bytes)) => Self { bytes, source: Source::Machine },
            (_, None) => Self::default(),
        }
    }

    /// The default of `--max-unread`: an eighth, because the kernel holds about as much again in the sockets of clients that
    /// do not read.
    pub fn unread(&self) -> usize {
        self.share(8)
    }

    /// The default of `--max-bytes` of each of `proxies` caches in one process: together one half.
    pub fn cache(&self, proxies: usize) -> usize {
        self.share(2 * proxies.max(1) as u64)
    }

    fn share(&self, part: u64) -> usize {
        usize::try_from(self.bytes / part).map_or(MOST, |share| share.clamp(LEAST, MOST) & !(LEAST - 1))
    }
}

impl fmt::Display for Memory {
    /// `128 MiB, the limit of the control group`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes >> 20;
        match self.source {
            Source::Cgroup => write!(f, "{mib} MiB, the limit of the control group"),
            Source::Machine => write!(f, "{mib} MiB, the memory of the machine"),
            Source::Unknown => f.write_str("unknown memory"),
        }
    }
}

/// `MemTotal` of `/proc/meminfo`, in bytes (proc_meminfo(5)).
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit of a group and of those above it. `line` is one of `/proc/self/cgroup`: `0::/path` of version 2,
/// `4:cpu,memory:/path` of version 1 (cgroups(7)).
fn group_limit(line: &str, read: &impl Fn(&str) -> Option<String>) -> Option<u64> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let (root, files): (&str, &[&str]) = match controllers {
        "" => (V2, &["memory.max", "memory.high"]),
        _ if controllers.split(',').any(|one| one == "memory") => (V1, &["memory.limit_in_bytes"]),
        _ => return None,
    };
    let above = path.match_indices('/').map(|(at, _)| &path[..at]);
    let groups = above.chain([path.trim_end_matches('/')]);
    let limits = groups.flat_map(|group| files.iter().map(move |file| format!("{root}{group}/{file}")));
    limits.filter_map(|file| limit(&read(&file)?)).min()
}

/// A limit in bytes; `None` for `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn memory(files: &[(&str, &str)]) -> Memory {
        let machine = ("/proc/meminfo", "MemTotal:       16384000 kB\nMemFree:  1 kB\n");
        let files: Vec<_> = files.iter().chain([&machine]).collect();
        Memory::find(|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn a_container_of_version_2_has_the_limit_of_its_group() {
        let found = memory(&[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "134217728\n")]);
        assert_eq!(found.to_string(), "128 MiB, the limit of the control group");
        assert_eq!((found.unread(), found.cache(1), found.cache(4)), (16 * MIB, 64 * MIB, 16 * MIB));
    }

    #[test]
    fn a_group_above_may_have_the_smaller_limit() {
        let found = memory(&[
            ("/proc/self/cgroup", "0::/system.slice/dproxy.service\n"),
            ("/sys/fs/cgroup/system.slice/dproxy.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/dproxy.service/memory.high", "536870912\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "268435456\n"),
        ]);
        assert_eq!(found.bytes, 256 << 20);
    }

    #[test]
    fn version_1_is_read_at_the_root_when_the_path_is_one_of_the_host() {
        let groups = "5:devices:/docker/1f\n4:cpu,memory:/docker/1f\n0::/docker/1f\n";
        let found = memory(&[
            ("/proc/self/cgroup", groups),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ]);
        assert_eq!(found.bytes, 1 << 30);
    }

    #[test]
    fn without_a_limit_the_machine_counts_and_no_share_is_above_the_defaults() {
        let groups = [("/proc/self/cgroup", "4:memory:/\n0::/\n")];
        let no_limit = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        for found in [memory(&groups), memory(&[groups[0], no_limit]), memory(&[])] {
            assert_eq!(found.to_string(), "16000 MiB, the memory of the machine");
            assert_eq!((found.unread(), found.cache(1)), (MOST, MOST));
        }
        let nothing = Memory::find(|_| None);
        assert_eq!((nothing.unread(), nothing.to_string().as_str()), (MOST, "unknown memory"));
        assert_eq!(limit("0").map(|bytes| Memory { bytes, source: Source::Cgroup }.unread()), Some(LEAST));
    }
}
