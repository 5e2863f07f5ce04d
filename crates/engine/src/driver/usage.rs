//! What the calling thread has used.

use std::io;
use std::time::Duration;

/// The CPU time that the calling thread has used so far: `(user, system)`.
///
/// # Errors
/// What `getrusage(2)` says, which for the calling thread is nothing on Linux 2.6.26 or newer.
///
/// ```
/// let (user, system) = aioxide::thread_cpu_time()?;
/// assert!((user + system).as_secs() < 3600);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn thread_cpu_time() -> io::Result<(Duration, Duration)> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel fills the struct that the pointer names, whose type is the call's own.
    if unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so all of it is filled.
    let usage = unsafe { usage.assume_init() };
    Ok((duration(usage.ru_utime), duration(usage.ru_stime)))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}
