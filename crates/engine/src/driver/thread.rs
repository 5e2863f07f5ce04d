//! What the kernel says of a thread of this process, from `/proc/self/task`.

use std::fs;
use std::io;
use std::os::raw::c_long;

/// A thread, as the kernel sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    /// Whether it runs or could run. Else it sleeps.
    pub is_runnable: bool,
    /// The system call in which it sleeps, if the kernel tells.
    pub syscall: Option<c_long>,
    /// CPU time so far, in nanoseconds; right to a few milliseconds.
    pub cpu_ns: u64,
    /// How long it was runnable, but something else ran, in nanoseconds; 0 where the kernel does not count that.
    pub delay_ns: u64,
}

/// The state of thread `tid`.
///
/// # Errors
/// `NotFound` if there is none; what reading `/proc` says.
pub fn thread_state(tid: u64) -> io::Result<ThreadState> {
    let read = |file: &str| fs::read_to_string(format!("/proc/self/task/{tid}/{file}"));
    let stat = read("stat")?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "an unknown form of /proc/self/task/*/stat");
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ").ok_or_else(malformed)?;
    let mut fields = rest.split_ascii_whitespace();
    let is_runnable = fields.next().ok_or_else(malformed)? == "R";
    let (cpu_ns, delay_ns) = scheduled(tid).unwrap_or_else(|_not_counted| {
        let jiffies: u64 = fields.skip(10).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        (jiffies * 10_000_000, 0)
    });
    let syscall = read("syscall").ok().and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    Ok(ThreadState { is_runnable, syscall: syscall.filter(|number| *number >= 0), cpu_ns, delay_ns })
}

/// How long thread `tid` was runnable so far while something else ran, in nanoseconds; 0 where that is not counted.
#[must_use]
pub fn delay_ns(tid: u64) -> u64 {
    scheduled(tid).map_or(0, |(_, delay_ns)| delay_ns)
}

/// How long a thread ran, and how long it was runnable while something else did.
fn scheduled(tid: u64) -> io::Result<(u64, u64)> {
    let schedstat = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat"))?;
    let mut numbers = schedstat.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0));
    Ok((numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}

/// The numbers of this process's threads.
pub fn threads() -> Vec<u64> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Whether thread `tid` waits for a lock of some kind.
#[must_use]
pub fn is_lock_call(syscall: c_long) -> bool {
    syscall == libc::SYS_futex
}

/// The system calls that programs block in.
const NAMES: &[(c_long, &str)] = &[
    (libc::SYS_read, "read"),
    (libc::SYS_pread64, "pread"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_write, "write"),
    (libc::SYS_pwrite64, "pwrite"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_openat, "open"),
    (libc::SYS_close, "close"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept"),
    (libc::SYS_recvfrom, "recv"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_sendto, "send"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_ppoll, "poll"),
    (libc::SYS_pselect6, "select"),
    (libc::SYS_epoll_pwait, "epoll_wait"),
    (libc::SYS_nanosleep, "sleep"),
    (libc::SYS_clock_nanosleep, "sleep"),
    (libc::SYS_wait4, "wait"),
    (libc::SYS_waitid, "wait"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_rt_sigtimedwait, "sigwait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause"),
];

/// The name of a system call that programs block in.
#[must_use]
pub fn syscall_name(syscall: c_long) -> Option<&'static str> {
    NAMES.iter().find(|(number, _)| *number == syscall).map(|(_, name)| *name)
}

#[cfg(test)]
pub(crate) fn syscall_named(name: &str) -> c_long {
    NAMES.iter().find(|(_, known)| *known == name).map_or(-1, |(number, _)| *number)
}

/// Starts a thread that no signal is delivered to: signals are for the threads of the program.
///
/// # Errors
/// `WouldBlock` when there can be no more threads.
pub fn spawn_without_signals<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are filled by the calls before they are used. The new thread inherits the mask, and this one
    // has its own back right after.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        spawned
    }
}

/// The same, and the thread's sleeps are as short as the kernel can make them.
///
/// # Errors
/// `WouldBlock` when there can be no more threads.
pub fn spawn_precise<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<T>> {
    spawn_without_signals(name, move || {
        // Where the kernel refuses, sleeps are some 50 µs longer, which is measured.
        let _longer = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        body()
    })
}

#[cfg(test)]
mod tests {
    use super::{is_lock_call, spawn_without_signals, syscall_name, thread_state, threads};

    #[test]
    fn a_sleeping_thread_is_seen_to_sleep() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = spawn_without_signals("sleeper", move || {
            sender.send(u64::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap()).unwrap();
            let _ended = wait.recv();
        })
        .unwrap();
        let tid = receiver.recv().unwrap();
        assert!(threads().contains(&tid));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while thread_state(tid).unwrap().is_runnable && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let state = thread_state(tid).unwrap();
        assert!(state.syscall.is_none_or(is_lock_call), "{state:?}");
        drop(done);
        thread.join().unwrap();
        assert_eq!(syscall_name(libc::SYS_connect), Some("connect"));
        assert_eq!(syscall_name(-1), None);
    }
}
