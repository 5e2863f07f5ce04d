//! What the recorder needs to know of a class, found out once: to ask an object for an attribute that it does not have
//! makes an exception, which costs more than everything else that a step's record does.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyString, PyType};

use crate::event_loop::Loop;

const RECENT: usize = 32;
/// So many classes are remembered.
const REMEMBERED_MAX: usize = 4096;

/// How what can be awaited shows its code, and what it awaits itself.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Coroutine,
    Generator,
    AsyncGenerator,
}

impl Form {
    const ALL: [Self; 3] = [Self::Coroutine, Self::Generator, Self::AsyncGenerator];

    /// The attribute with its code.
    pub fn code(self, py: Python<'_>) -> &Bound<'_, PyString> {
        match self {
            Self::Coroutine => intern!(py, "cr_code"),
            Self::Generator => intern!(py, "gi_code"),
            Self::AsyncGenerator => intern!(py, "ag_code"),
        }
    }

    /// The attribute with what it awaits.
    pub fn awaited(self, py: Python<'_>) -> &Bound<'_, PyString> {
        match self {
            Self::Coroutine => intern!(py, "cr_await"),
            Self::Generator => intern!(py, "gi_yieldfrom"),
            Self::AsyncGenerator => intern!(py, "ag_await"),
        }
    }
}

/// Which attributes the objects of a class have.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// They say what coroutine they run, as `asyncio.Task` does, and the runner of a `gen.coroutine`.
    pub is_task: bool,
    /// A task says what it waits for.
    pub has_waiter: bool,
    /// They are methods of an object, or look like it.
    pub has_self: bool,
    /// They are functions or methods with a code object.
    pub has_code: bool,
    /// They stand for another function, as `functools.partial` does.
    pub has_func: bool,
    /// They are coroutines or generators, or look like it.
    pub form: Option<Form>,
}

impl Facts {
    fn of(class: &Bound<'_, PyType>) -> Self {
        let py = class.py();
        let has = |name: &Bound<'_, PyString>| class.hasattr(name).unwrap_or(false);
        // A bound method has what its function has, though its class does not say so.
        let is_function = class.is(py.get_type::<PyFunction>()) || class.name().is_ok_and(|name| name == "method");
        Self {
            is_task: has(intern!(py, "get_coro")),
            has_waiter: has(intern!(py, "_fut_waiter")),
            has_self: has(intern!(py, "__self__")),
            has_code: is_function || has(intern!(py, "__code__")),
            has_func: has(intern!(py, "func")),
            form: Form::ALL.into_iter().find(|form| has(form.code(py))),
        }
    }
}

/// Hashes addresses, which differ in their middle bits.
#[derive(Default)]
pub struct AddressHasher(u64);

pub type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// The classes that were seen, by their addresses; they are kept, so that the addresses stay their own.
#[derive(Default)]
pub struct ClassBook {
    known: AddressMap<usize, (Facts, Py<PyType>)>,
    /// Those that were asked for last, each in the place that its address tells.
    recent: [Option<(usize, Facts)>; RECENT],
}

impl ClassBook {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.known.values().try_for_each(|(_, class)| visit.call(class))
    }

    #[inline]
    fn recent(&self, address: usize) -> Option<Facts> {
        self.recent[place(address)].filter(|(known, _)| *known == address).map(|(_, facts)| facts)
    }
}

#[inline]
fn place(address: usize) -> usize {
    // Classes are some hundreds of bytes long.
    (address >> 4 ^ address >> 9) % RECENT
}

/// What is known of an object's class.
pub fn facts(event_loop: &Bound<'_, Loop>, object: &Bound<'_, PyAny>) -> Facts {
    let py = object.py();
    let address = object.get_type_ptr() as usize;
    if let Some(facts) = event_loop.get().lanes.borrow(py).classes.recent(address) {
        return facts;
    }
    let known = event_loop.get().lanes.borrow(py).classes.known.get(&address).map(|(facts, _)| *facts);
    let class = object.get_type();
    let facts = known.unwrap_or_else(|| Facts::of(&class));
    let classes = &mut event_loop.get().lanes.borrow_mut(py).classes;
    if known.is_none() && classes.known.len() < REMEMBERED_MAX {
        classes.known.insert(address, (facts, class.unbind()));
    }
    if classes.known.contains_key(&address) {
        classes.recent[place(address)] = Some((address, facts));
    }
    facts
}
