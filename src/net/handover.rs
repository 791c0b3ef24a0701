//! Hands a port over to another process that shares it by SO_REUSEPORT.
//!
//! The kernel spreads connections over all listeners of a port, and resets those in the queue of a listener that is closed,
//! even if they arrived after its last accept. So new connections are led past our listeners before these are closed.
//!
//! The kernel keeps the listeners of a port in an array, in the order of their arrival: ours are the first `ours`, and those
//! of the next process follow. When one is closed, the last one takes its index: until all of ours are closed, the listener
//! at index `ours` stays there.

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};
use socket2::{SockFilter, SockRef};
use tracing::warn;

use super::transport::Listener;

/// Instructions of the classic BPF.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const ADD: u16 = 0x04;
const MODULO: u16 = 0x94;
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;
const SKIP_UNLESS_BITS: u16 = 0x45;
/// The address of a random number: SKF_AD_OFF + SKF_AD_RANDOM.
const RANDOM: u32 = 0xffff_f000 + 56;
/// The byte of the flags in a TCP header, and SYN in it.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;

/// Leads new connections to the next process, spread over as many listeners as we have; handshakes under way continue with
/// us. If there is no listener at an index, the kernel chooses one itself: a SYN that reaches us is dropped, and the client
/// sends it again after a second.
pub(crate) fn leave(listener: &Listener, ours: usize) {
    let ours = u32::try_from(ours).unwrap_or(u32::MAX);
    lead(listener, &mut [(LOAD_WORD, RANDOM), (MODULO, ours.max(1)), (ADD, ours), (RETURN_A, 0)]);
    let no_syn = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(SKIP_UNLESS_BITS, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&no_syn) {
        warn!(%error, "a connection may be lost as the port changes hands");
    }
}

/// Leads all connections to the one listener that keeps its index while ours are closed one after another.
pub(crate) fn close(listener: &Listener, ours: usize) {
    lead(listener, &mut [(RETURN, u32::try_from(ours).unwrap_or(u32::MAX))]);
}

/// Sets the program by which the kernel chooses a listener of the port.
fn lead(listener: &Listener, program: &mut [(u16, u32)]) {
    let mut program: Vec<sock_filter> =
        program.iter().map(|&(code, k)| sock_filter { code, jt: 0, jf: 0, k }).collect();
    // The kernel copies the program before the call returns.
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    if let Err(error) = setsockopt(listener, AttachReusePortCbpf, &program) {
        warn!(%error, "some connections may take a second longer as the port changes hands");
    }
}
