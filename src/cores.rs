//! One thread and one single-threaded runtime per core: what arrives on a core is served there, and no request wakes
//! another thread.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};

use crate::per_core::set_core_index;

/// Threads of the pool for reads that block, per core.
const BLOCKING: usize = 64;

/// The threads beside the first one.
pub struct Cores(Vec<JoinHandle<()>>);

/// A runtime for one core.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING).build()
}

/// Starts a thread for each list of tasks, which ends when they have. The calling thread is the first core.
pub fn start<T>(threads: impl Iterator<Item = Vec<T>>) -> io::Result<Cores>
where
    T: Future<Output = ()> + Send + 'static,
{
    let start = |(index, tasks): (usize, Vec<T>)| {
        let runtime = runtime()?;
        std::thread::Builder::new().name(format!("core-{}", index + 1)).spawn(move || {
            set_core_index(index + 1);
            runtime.block_on(futures_util::future::join_all(tasks));
            runtime.shutdown_background();
        })
    };
    threads.enumerate().map(start).collect::<io::Result<Vec<_>>>().map(Cores)
}

impl Cores {
    /// Waits for all of them.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a serving thread ended in a panic");
            }
        }
    }
}
