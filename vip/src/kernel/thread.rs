//! What the speaker's thread asks of the scheduler.

#![expect(unsafe_code, reason = "no safe crate in use offers sched_setscheduler(2)")]

use std::io;

/// Puts the calling thread before all ordinary ones: load on the data threads must not delay a
/// heartbeat. It needs about a thousandth of a core. Fails without `CAP_SYS_NICE`.
pub(crate) fn before_others() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // Children of this thread, if there ever are any, are ordinary again.
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: thread 0 is the caller, and the parameters outlive the call, which only reads them.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
