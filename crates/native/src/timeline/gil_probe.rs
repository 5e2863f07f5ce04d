//! Who has the GIL, read from the interpreter's memory without taking it: raw, with a safe face.
//!
//! No offset is written down here. Since each version of CPython lays its state out anew, the place is looked for: in
//! `_PyRuntime` there is one spot with the switch interval, the address of the running thread's state and a one behind
//! each other. What was found is proved before it is used: it must say that the GIL is free or another's while this
//! thread has let it go, and that a second thread has it while that one does. Where that fails, there is no probe.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aioxide::timeline::LockProbe;
use pyo3::prelude::*;

use crate::raw::thread_state;

/// So far behind the start of `_PyRuntime` it is looked for.
const RUNTIME_BYTES_MAX: usize = 4 << 20;
/// So far into a thread's state its numbers are looked for.
const THREAD_WORDS_MAX: usize = 64;
const WORD: usize = size_of::<u64>();

/// Where the interpreter keeps who has the GIL.
#[derive(Clone, Copy, Debug)]
pub struct GilProbe {
    /// The address of the last holder's thread state. The word after it tells whether that one still has the GIL.
    holder: &'static AtomicU64,
    is_locked: &'static AtomicU32,
    /// The kernel's number of a thread, so many bytes into its state.
    tid_offset: usize,
}

/// The main interpreter's, or why it cannot be had.
pub fn find(py: Python<'_>) -> Result<GilProbe, String> {
    let (holder, tid_offset) = place(py)?;
    // SAFETY: `place` has found both words in the memory of `_PyRuntime`, which is never freed, and aligned. The
    // interpreter changes them by atomic or plain stores of whole words.
    let (holder, is_locked) = unsafe { (&*(holder as *const AtomicU64), &*((holder + WORD) as *const AtomicU32)) };
    let probe = GilProbe { holder, is_locked, tid_offset };
    if probe.proves_right(py) { Ok(probe) } else { Err("what looked like the GIL's state is not".to_owned()) }
}

fn place(py: Python<'_>) -> Result<(usize, usize), String> {
    // SAFETY: a name that ends with a NUL; asking for an unknown one gives null.
    let runtime = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_PyRuntime".as_ptr()) } as usize;
    if runtime == 0 {
        return Err("the interpreter does not show where its state is".to_owned());
    }
    let own = thread_state(py);
    let interval = py.import("sys").and_then(|sys| sys.call_method0("getswitchinterval")?.extract::<f64>());
    let interval = interval.map_err(|error| error.to_string())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of microseconds")]
    let interval = (interval * 1e6).round() as u64;
    let words = read(runtime, readable_from(runtime).min(RUNTIME_BYTES_MAX) / WORD);
    let is_it = |found: &[u64]| found[0].abs_diff(interval) <= 1 && found[1] == own as u64 && found[2] as u32 == 1;
    let mut found = words.windows(3).enumerate().filter(|(_, words)| is_it(words)).map(|(index, _)| index);
    let (Some(index), None) = (found.next(), found.next()) else {
        return Err("the GIL's state is not where it was in known versions".to_owned());
    };
    let state = read(own, THREAD_WORDS_MAX.min(readable_from(own) / WORD));
    let (thread, tid) = this_thread();
    let offset = state.windows(2).position(|words| words[0] == thread && words[1] == tid);
    let offset = offset.ok_or("a thread's state does not tell its number where it did in known versions")?;
    Ok((runtime + (index + 1) * WORD, (offset + 1) * WORD))
}

/// What `threading` calls `ident` and `native_id`.
fn this_thread() -> (u64, u64) {
    // SAFETY: both always succeed.
    let (thread, tid) = unsafe { (libc::pthread_self(), libc::gettid()) };
    (thread, u64::from(tid.unsigned_abs()))
}

/// How many bytes from `address` on may be read, by the kernel's list.
fn readable_from(address: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut end = address;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let range = fields.next().and_then(|range| range.split_once('-'));
        let Some((first, last)) = range else { continue };
        let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
        // Neighbouring mappings go on, as those of a program's data and of what it starts with zeros.
        if number(first) <= end && end < number(last) && fields.next().is_some_and(|rights| rights.starts_with('r')) {
            end = number(last);
        }
    }
    end - address
}

/// Copies words of this process's memory by a system call, which fails where there is none, as after a thread's end.
fn read(address: usize, words: usize) -> Vec<u64> {
    let mut found = vec![0_u64; words];
    let local = libc::iovec { iov_base: found.as_mut_ptr().cast::<c_void>(), iov_len: words * WORD };
    let remote = libc::iovec { iov_base: address as *mut c_void, iov_len: words * WORD };
    // SAFETY: `local` is `found`'s own memory; what `remote` says is checked by the kernel.
    let copied = unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    found.truncate(usize::try_from(copied).unwrap_or(0) / WORD);
    found
}

impl GilProbe {
    fn thread_state(self) -> Option<u64> {
        let holder = self.holder.load(Ordering::Relaxed);
        (self.is_locked.load(Ordering::Relaxed) == 1).then_some(holder)
    }

    fn proves_right(self, py: Python<'_>) -> bool {
        let tid = || this_thread().1;
        let own = tid();
        let is_ours = || self.clone().holder() == Some(own);
        // A second thread has it while this one waits for it, and then this one again.
        let seen = py.detach(|| {
            let other = std::thread::spawn(move || {
                let free = self.clone().holder() != Some(own);
                Python::attach(|_| free && self.clone().holder() == Some(tid()))
            });
            other.join().unwrap_or(false)
        });
        seen && is_ours()
    }
}

impl LockProbe for GilProbe {
    fn holder(&mut self) -> Option<u64> {
        let state = self.thread_state()?;
        let tid = *read(usize::try_from(state).ok()? + self.tid_offset, 1).first()?;
        // If it was let go meanwhile, the number may be of nobody.
        (self.thread_state() == Some(state) && tid != 0 && tid <= u64::from(u32::MAX)).then_some(tid)
    }
}
