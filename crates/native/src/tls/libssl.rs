//! The libssl that CPython's `_ssl` is linked to: its functions, found by name, behind safe wrappers.
//!
//! Nothing is linked here. [`Libssl::open`] asks the dynamic linker for the library that `_ssl` already loaded, and for
//! each function by its name; where one is missing (a static build, another TLS library) there is no [`Libssl`].

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::pipes::Pipes;

/// OpenSSL's `SSL`.
#[repr(C)]
pub struct Ssl {
    _opaque: [u8; 0],
}

/// OpenSSL's `BIO`.
#[repr(C)]
pub struct Bio {
    _opaque: [u8; 0],
}

/// OpenSSL's `BIO_METHOD`.
#[repr(C)]
struct BioMethod {
    _opaque: [u8; 0],
}

type BioRead = unsafe extern "C" fn(*mut Bio, *mut c_char, usize, *mut usize) -> c_int;
type BioWrite = unsafe extern "C" fn(*mut Bio, *const c_char, usize, *mut usize) -> c_int;
type BioCtrl = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
type BioDestroy = unsafe extern "C" fn(*mut Bio) -> c_int;
type ExNew = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, c_int, c_long, *mut c_void);

// Numbers of OpenSSL's public headers, the same in 1.1.1 and in every 3.x.
const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;
const SSL_CTRL_MODE: c_int = 33;
const SSL_CTRL_CLEAR_MODE: c_int = 78;
const SSL_MODE_RELEASE_BUFFERS: c_long = 0x10;
const BIO_TYPE_SOURCE_SINK: c_int = 0x0400;
const BIO_FLAGS_READ: c_int = 0x01;
const BIO_FLAGS_SHOULD_RETRY: c_int = 0x08;
const BIO_FLAGS_RETRY_ALL: c_int = 0x0f;
const BIO_CTRL_PENDING: c_int = 10;
const BIO_CTRL_FLUSH: c_int = 11;
const BIO_CTRL_WPENDING: c_int = 13;
const CRYPTO_EX_INDEX_SSL: c_int = 0;
const NOBODY_LISTENS: (c_int, usize, usize) = (-1, 0, 0);
/// `SSL_get_app_data` is the extra datum with this number.
const APP_DATA_INDEX: c_int = 0;

macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions that are called, by their C names.
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            fn find(library: &Library) -> Result<Self, String> {
                Ok(Self {
                    $($field: {
                        let address = library.symbol($symbol)?;
                        // SAFETY: the symbol is OpenSSL's public function of that name, whose signature this is; that
                        // the library is OpenSSL of a known version is checked before any of them is called.
                        unsafe {
                            std::mem::transmute::<
                                NonNull<c_void>,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    version_number = c"OpenSSL_version_num": fn() -> c_ulong;
    peek_error = c"ERR_peek_error": fn() -> c_ulong;
    clear_errors = c"ERR_clear_error": fn();
    ssl_do_handshake = c"SSL_do_handshake": fn(*mut Ssl) -> c_int;
    ssl_read = c"SSL_read_ex": fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    ssl_write = c"SSL_write_ex": fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    ssl_get_error = c"SSL_get_error": fn(*const Ssl, c_int) -> c_int;
    ssl_ctrl = c"SSL_ctrl": fn(*mut Ssl, c_int, c_long, *mut c_void) -> c_long;
    ssl_free_buffers = c"SSL_free_buffers": fn(*mut Ssl) -> c_int;
    ssl_has_pending = c"SSL_has_pending": fn(*const Ssl) -> c_int;
    ssl_set_bio = c"SSL_set_bio": fn(*mut Ssl, *mut Bio, *mut Bio);
    ssl_get_ex_data = c"SSL_get_ex_data": fn(*const Ssl, c_int) -> *mut c_void;
    get_ex_new_index = c"CRYPTO_get_ex_new_index":
        fn(c_int, c_long, *mut c_void, Option<ExNew>, *mut c_void, *mut c_void) -> c_int;
    free_ex_index = c"CRYPTO_free_ex_index": fn(c_int, c_int) -> c_int;
    bio_new = c"BIO_new": fn(*const BioMethod) -> *mut Bio;
    bio_get_new_index = c"BIO_get_new_index": fn() -> c_int;
    bio_meth_new = c"BIO_meth_new": fn(c_int, *const c_char) -> *mut BioMethod;
    bio_meth_set_read = c"BIO_meth_set_read_ex": fn(*mut BioMethod, BioRead) -> c_int;
    bio_meth_set_write = c"BIO_meth_set_write_ex": fn(*mut BioMethod, BioWrite) -> c_int;
    bio_meth_set_ctrl = c"BIO_meth_set_ctrl": fn(*mut BioMethod, BioCtrl) -> c_int;
    bio_meth_set_destroy = c"BIO_meth_set_destroy": fn(*mut BioMethod, BioDestroy) -> c_int;
    bio_set_data = c"BIO_set_data": fn(*mut Bio, *mut c_void);
    bio_get_data = c"BIO_get_data": fn(*mut Bio) -> *mut c_void;
    bio_set_init = c"BIO_set_init": fn(*mut Bio, c_int);
    bio_set_flags = c"BIO_set_flags": fn(*mut Bio, c_int);
    bio_clear_flags = c"BIO_clear_flags": fn(*mut Bio, c_int);
}

/// A library that stays loaded for the life of the process.
struct Library(NonNull<c_void>);

impl Library {
    /// The library at `path`, if the process has it loaded; its own libraries are searched with it.
    fn loaded(path: &str) -> Result<Self, String> {
        let name = CString::new(path).map_err(|error| error.to_string())?;
        // SAFETY: a valid C string; nothing is loaded, so that no code runs.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        NonNull::new(handle).map(Self).ok_or_else(|| format!("{path} is not loaded"))
    }

    fn symbol(&self, name: &CStr) -> Result<NonNull<c_void>, String> {
        // SAFETY: the handle is never closed, and the name is a valid C string.
        let address = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        NonNull::new(address).ok_or_else(|| format!("no {} in it", name.to_string_lossy()))
    }
}

/// How a read or write of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many bytes.
    Done(usize),
    /// More from the peer is needed first.
    Waiting,
    /// The peer sent close_notify.
    Closed,
    /// It failed; why is still in the thread's error queue.
    Failed,
}

/// OpenSSL as the interpreter loaded it.
pub struct Libssl {
    functions: Functions,
    /// Our kind of BIO, which reads from and writes to [`Pipes`].
    method: NonNull<BioMethod>,
}

// SAFETY: function addresses, and a BIO_METHOD that is not changed any more.
unsafe impl Send for Libssl {}
// SAFETY: as above.
unsafe impl Sync for Libssl {}

/// An `SSL` whose address the library itself has told.
#[derive(Clone, Copy)]
pub struct SslRef(NonNull<Ssl>);

// SAFETY: an address; whoever uses it holds the Python object that owns the SSL (see `Libssl::read`).
unsafe impl Send for SslRef {}

thread_local! {
    /// While a probe listens in this thread: its index for extra data, how many an `SSL` were created, and the last's
    /// address; see [`Libssl::created_by`].
    static CREATED: Cell<(c_int, usize, usize)> = const { Cell::new(NOBODY_LISTENS) };
}

impl Libssl {
    /// The library behind the module at `path`, which must say that it has `version`.
    ///
    /// # Errors
    /// What does not fit, for people to read.
    pub fn open(path: &str, version: c_ulong) -> Result<Self, String> {
        let library = Library::loaded(path)?;
        // Version 1.1.1 is the oldest with all of what follows; another library says another number, or has no such
        // function. Asked before any other function is even looked for.
        let functions = Functions::find(&library)?;
        // SAFETY: it takes nothing and gives a number.
        let found = unsafe { (functions.version_number)() };
        if found != version || found < 0x1010_1000 {
            return Err(format!("its version is {found:#x}, and the ssl module's {version:#x}"));
        }
        let method = Self::make_method(&functions).ok_or("no BIO_METHOD can be made")?;
        Ok(Self { functions, method })
    }

    fn make_method(functions: &Functions) -> Option<NonNull<BioMethod>> {
        // SAFETY: by OpenSSL's documentation; the callbacks have the signatures that are asked for. The method is
        // never freed, since BIOs of it may live as long as the process.
        unsafe {
            let kind = (functions.bio_get_new_index)();
            if kind == -1 {
                return None;
            }
            let method = NonNull::new((functions.bio_meth_new)(kind | BIO_TYPE_SOURCE_SINK, c"aioxide".as_ptr()))?;
            let set = (functions.bio_meth_set_read)(method.as_ptr(), bio_read)
                & (functions.bio_meth_set_write)(method.as_ptr(), bio_write)
                & (functions.bio_meth_set_ctrl)(method.as_ptr(), bio_ctrl)
                & (functions.bio_meth_set_destroy)(method.as_ptr(), bio_destroy);
            (set == 1).then_some(method)
        }
    }

    /// Runs `create`, and gives the `SSL` that the library made meanwhile on this thread, if it made exactly one.
    ///
    /// The library tells of it by itself: it calls whoever registered an index for extra data of each new `SSL`.
    pub fn created_by<R>(&self, create: impl FnOnce() -> R) -> (R, Option<SslRef>) {
        // SAFETY: no datum comes with the index, and the callback has the signature that is asked for.
        let index = unsafe {
            (self.functions.get_ex_new_index)(
                CRYPTO_EX_INDEX_SSL,
                0,
                std::ptr::null_mut(),
                Some(ssl_created),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        CREATED.set((index, 0, 0));
        let result = create();
        let (_, count, address) = CREATED.replace(NOBODY_LISTENS);
        if index >= 0 {
            // SAFETY: the index was given above.
            unsafe { (self.functions.free_ex_index)(CRYPTO_EX_INDEX_SSL, index) };
        }
        match count {
            1 => (result, NonNull::new(address as *mut Ssl).map(SslRef)),
            _ => (result, None),
        }
    }

    /// The object that CPython noted in `ssl`: the `_ssl._SSLSocket` that owns it.
    ///
    /// # Safety
    /// `ssl` is alive.
    pub unsafe fn owner(&self, ssl: SslRef) -> *mut c_void {
        // SAFETY: the caller's promise; any index may be asked for.
        unsafe { (self.functions.ssl_get_ex_data)(ssl.0.as_ptr(), APP_DATA_INDEX) }
    }

    /// Lets `ssl` read from and write to `pipes` from now on, instead of what it had.
    ///
    /// # Safety
    /// `ssl` is alive, and no other thread uses it.
    pub unsafe fn attach(&self, ssl: SslRef, pipes: Pipes) -> Result<(), &'static str> {
        let functions = &self.functions;
        // SAFETY: the BIO is of our own method, and owns `pipes` until `bio_destroy`; `ssl` takes the one reference.
        unsafe {
            let bio = (functions.bio_new)(self.method.as_ptr());
            if bio.is_null() {
                return Err("no BIO can be made");
            }
            (functions.bio_set_data)(bio, pipes.into_raw().cast());
            (functions.bio_set_init)(bio, 1);
            (functions.ssl_set_bio)(ssl.0.as_ptr(), bio, bio);
        }
        Ok(())
    }

    /// Goes on with the handshake, for as long as it needs nothing more from the peer.
    ///
    /// # Safety
    /// As [`Libssl::read`], with a handshake that may be under way.
    pub unsafe fn handshake(&self, ssl: SslRef) -> Outcome {
        // SAFETY: the caller's promise.
        unsafe {
            self.clear_errors();
            let answer = (self.functions.ssl_do_handshake)(ssl.0.as_ptr());
            self.outcome(ssl, answer, 0)
        }
    }

    /// Decrypts into `room`.
    ///
    /// # Safety
    /// `ssl` is alive, its handshake is done, and no other thread uses it. Nothing of its [`Pipes`] is borrowed.
    pub unsafe fn read(&self, ssl: SslRef, room: &mut [MaybeUninit<u8>]) -> Outcome {
        let mut count = 0;
        // SAFETY: the caller's promise; the library writes at most as much as there is room.
        unsafe {
            self.clear_errors();
            let answer =
                (self.functions.ssl_read)(ssl.0.as_ptr(), room.as_mut_ptr().cast(), room.len(), &raw mut count);
            self.outcome(ssl, answer, count)
        }
    }

    /// Encrypts from `data`.
    ///
    /// # Safety
    /// As [`Libssl::read`].
    pub unsafe fn write(&self, ssl: SslRef, data: &[u8]) -> Outcome {
        let mut count = 0;
        // SAFETY: the caller's promise; the library reads no more than `data`.
        unsafe {
            self.clear_errors();
            let answer = (self.functions.ssl_write)(ssl.0.as_ptr(), data.as_ptr().cast(), data.len(), &raw mut count);
            self.outcome(ssl, answer, count)
        }
    }

    unsafe fn outcome(&self, ssl: SslRef, answer: c_int, count: usize) -> Outcome {
        if answer == 1 {
            return Outcome::Done(count);
        }
        // SAFETY: `ssl` is alive, by the caller's promise.
        match unsafe { (self.functions.ssl_get_error)(ssl.0.as_ptr(), answer) } {
            SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Outcome::Waiting,
            SSL_ERROR_ZERO_RETURN => Outcome::Closed,
            _ => Outcome::Failed,
        }
    }

    /// Whether `ssl` holds something that a read may give without more from the peer.
    ///
    /// # Safety
    /// `ssl` is alive.
    pub unsafe fn has_pending(&self, ssl: SslRef) -> bool {
        // SAFETY: the caller's promise.
        unsafe { (self.functions.ssl_has_pending)(ssl.0.as_ptr()) == 1 }
    }

    /// Whether `ssl` keeps its two buffers, of 17 KiB each, while they are empty.
    ///
    /// # Safety
    /// As [`Libssl::read`], before its handshake too.
    pub unsafe fn keep_buffers(&self, ssl: SslRef, keeps: bool) {
        // SAFETY: the caller's promise; these commands take a number alone.
        unsafe {
            let control =
                |command, mode| (self.functions.ssl_ctrl)(ssl.0.as_ptr(), command, mode, std::ptr::null_mut());
            if keeps {
                control(SSL_CTRL_CLEAR_MODE, SSL_MODE_RELEASE_BUFFERS);
                // Setting, not clearing, is what tells the record layer (since 3.2).
                control(SSL_CTRL_MODE, 0);
            } else {
                control(SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS);
                // It refuses where something is in them; they are freed once they are empty.
                (self.functions.ssl_free_buffers)(ssl.0.as_ptr());
            }
        }
    }

    /// Empties the thread's error queue.
    pub fn clear_errors(&self) {
        // SAFETY: they take nothing. An empty queue is told faster than emptied.
        unsafe {
            if (self.functions.peek_error)() != 0 {
                (self.functions.clear_errors)();
            }
        }
    }
}

impl SslRef {
    /// Whether it is at `address`.
    pub fn is_at(self, address: usize) -> bool {
        self.0.as_ptr() as usize == address
    }

    /// The `SSL` at `address`.
    ///
    /// # Safety
    /// There is one.
    pub unsafe fn at(address: usize) -> Option<Self> {
        NonNull::new(address as *mut Ssl).map(Self)
    }
}

/// What the BIOs' callbacks need; they are only ever called by a library that was opened.
fn functions() -> Option<&'static Functions> {
    super::probe::opened().map(|libssl| &libssl.functions)
}

unsafe extern "C" fn ssl_created(
    parent: *mut c_void,
    _datum: *mut c_void,
    _data: *mut c_void,
    index: c_int,
    _argument: c_long,
    _pointer: *mut c_void,
) {
    // Another thread may listen at the same time, with an index of its own.
    let (own, count, _) = CREATED.get();
    if index == own {
        CREATED.set((own, count + 1, parent as usize));
    }
}

unsafe extern "C" fn bio_read(bio: *mut Bio, into: *mut c_char, length: usize, count: *mut usize) -> c_int {
    let Some(functions) = functions() else { return 0 };
    // SAFETY: OpenSSL passes a BIO of ours, whose datum is the pipes that `attach` gave it, and room for `length`
    // bytes. Nobody has the pipes borrowed: a session borrows them only while it is not inside of OpenSSL.
    unsafe {
        (functions.bio_clear_flags)(bio, BIO_FLAGS_RETRY_ALL);
        let data = (functions.bio_get_data)(bio);
        let taken = Pipes::with_raw(data.cast(), |pipes| {
            pipes.take_input(std::slice::from_raw_parts_mut(into.cast::<MaybeUninit<u8>>(), length))
        });
        *count = taken;
        if taken == 0 {
            (functions.bio_set_flags)(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
        }
        c_int::from(taken > 0)
    }
}

unsafe extern "C" fn bio_write(bio: *mut Bio, from: *const c_char, length: usize, count: *mut usize) -> c_int {
    let Some(functions) = functions() else { return 0 };
    // SAFETY: as in `bio_read`; `from` has `length` bytes.
    unsafe {
        (functions.bio_clear_flags)(bio, BIO_FLAGS_RETRY_ALL);
        let data = (functions.bio_get_data)(bio);
        Pipes::with_raw(data.cast(), |pipes| {
            pipes.output.extend_from_slice(std::slice::from_raw_parts(from.cast::<u8>(), length));
        });
        *count = length;
    }
    1
}

unsafe extern "C" fn bio_ctrl(bio: *mut Bio, command: c_int, _number: c_long, _pointer: *mut c_void) -> c_long {
    let Some(functions) = functions() else { return 0 };
    // SAFETY: as in `bio_read`.
    let sizes = || unsafe {
        let data = (functions.bio_get_data)(bio);
        Pipes::with_raw(data.cast(), |pipes| (pipes.input_len(), pipes.output.len()))
    };
    match command {
        BIO_CTRL_FLUSH => 1,
        BIO_CTRL_PENDING => c_long::try_from(sizes().0).unwrap_or(c_long::MAX),
        BIO_CTRL_WPENDING => c_long::try_from(sizes().1).unwrap_or(c_long::MAX),
        _ => 0,
    }
}

unsafe extern "C" fn bio_destroy(bio: *mut Bio) -> c_int {
    let Some(functions) = functions() else { return 0 };
    // SAFETY: as in `bio_read`; the BIO gives back the reference that `attach` gave it, once.
    unsafe {
        let data = (functions.bio_get_data)(bio);
        (functions.bio_set_data)(bio, std::ptr::null_mut());
        Pipes::release_raw(data.cast());
    }
    1
}

/// The library's version, as the ssl module words it.
pub type VersionNumber = c_ulong;
