//! What is drawn in a line of its own, and the names of what happens there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One line of the picture. The upper eight bits number the ring in which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneId(pub u32);

/// No lane: what a thread without one wakes or marks belongs to nobody.
pub(crate) const NO_LANE: u32 = u32::MAX;
const RING_SHIFT: u32 = 24;
/// So many rings there can be; the last number would collide with [`NO_LANE`].
pub(crate) const RINGS_MAX: u32 = 0xff;

/// An interned name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameId(pub u32);

/// So many names there can be in a process; what comes after is called [`OTHER`]. A record has 24 bits for a name.
const NAMES_MAX: usize = 65_536;
const OTHER: &str = "(one of many names)";
/// What is longer is cut.
const NAME_BYTES_MAX: usize = 200;
const LANE_BYTES_MAX: usize = 120;
const TEXT_BYTES_MAX: usize = 8192;

/// What a lane stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    /// A loop: parked, or running something.
    Loop,
    /// A task of the host.
    Task,
    /// Callbacks that belong to no task.
    Callback,
    /// A thread that runs no loop.
    Thread,
    /// An HTTP request.
    Request,
    /// A lock of the host: slices are named by the threads that have it.
    Lock,
    /// When a thread was on a CPU.
    Cpu,
}

impl LaneKind {
    const ALL: [Self; 7] = [Self::Loop, Self::Task, Self::Callback, Self::Thread, Self::Request, Self::Lock, Self::Cpu];

    /// The kind that exports call so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind's name in exports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Task => "task",
            Self::Callback => "callback",
            Self::Thread => "thread",
            Self::Request => "request",
            Self::Lock => "lock",
            Self::Cpu => "cpu",
        }
    }
}

/// A lane as it is drawn.
#[derive(Clone, Debug)]
pub struct LaneInfo {
    /// Its number, by which slices name it.
    pub id: u32,
    /// What it is called.
    pub name: String,
    /// What it stands for.
    pub kind: LaneKind,
    /// The kernel's number of the thread in which it was made.
    pub thread: u64,
    /// What its task runs (a coroutine's name), by which thousands of tasks are grouped; empty for other kinds.
    pub group: String,
    /// Where that is defined, `file:line`; empty if that is not known.
    pub source: String,
}

/// A lane as it is kept: thousands of tasks share the rest of a [`LaneInfo`].
struct Lane {
    name: Box<str>,
    kind: LaneKind,
    thread: u64,
    group: NameId,
    source: NameId,
}

/// The lanes that one thread has made, the newest of them, and the words it has left in lanes.
pub(crate) struct Lanes {
    ring: u32,
    max: usize,
    /// The number of the first that is still known.
    first: u32,
    known: VecDeque<Lane>,
    first_text: u32,
    texts: VecDeque<String>,
}

impl Lanes {
    pub fn new(ring: u32, max: usize) -> Self {
        Self { ring, max, first: 0, known: VecDeque::new(), first_text: 0, texts: VecDeque::new() }
    }

    /// For another thread in the place of one that has ended: no number is given twice.
    pub fn successor(&self) -> Self {
        let known = u32::try_from(self.known.len()).unwrap_or(0);
        Self { first: self.first + known, ..Self::new(self.ring, self.max) }
    }

    pub fn add(&mut self, name: &str, group: NameId, source: NameId, kind: LaneKind, thread: u64) -> LaneId {
        if self.known.len() >= self.max {
            self.known.pop_front();
            self.first += 1;
        }
        let id = self.id(self.known.len());
        self.known.push_back(Lane { name: cut(name, LANE_BYTES_MAX).into(), kind, thread, group, source });
        id
    }

    fn id(&self, place: usize) -> LaneId {
        let number = self.first + u32::try_from(place).unwrap_or(0);
        LaneId(self.ring << RING_SHIFT | number & ((1 << RING_SHIFT) - 1))
    }

    pub fn rename(&mut self, lane: LaneId, name: &str) {
        let place = lane.0.wrapping_sub(self.id(0).0) as usize;
        if let Some(known) = self.known.get_mut(place) {
            known.name = cut(name, LANE_BYTES_MAX).into();
        }
    }

    pub fn known(&self, names: &[String]) -> impl Iterator<Item = LaneInfo> {
        let named = |name: NameId| names.get(name.0 as usize).cloned().unwrap_or_default();
        self.known.iter().enumerate().map(move |(place, lane)| LaneInfo {
            id: self.id(place).0,
            name: lane.name.to_string(),
            kind: lane.kind,
            thread: lane.thread,
            group: named(lane.group),
            source: named(lane.source),
        })
    }

    /// Keeps a text, and gives its number.
    pub fn add_text(&mut self, text: &str) -> u32 {
        if self.texts.len() >= self.max {
            self.texts.pop_front();
            self.first_text += 1;
        }
        self.texts.push_back(cut(text, TEXT_BYTES_MAX).to_owned());
        self.first_text + u32::try_from(self.texts.len() - 1).unwrap_or(0)
    }

    pub fn text(&self, number: u32) -> Option<&str> {
        let place = number.checked_sub(self.first_text)?;
        self.texts.get(place as usize).map(String::as_str)
    }
}

/// The number of the ring in which a lane was made.
pub(crate) fn ring_of(lane: LaneId) -> usize {
    (lane.0 >> RING_SHIFT) as usize
}

struct Names {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Names {
    /// The first name is the empty one.
    fn new() -> Self {
        Self { names: vec![String::new()], ids: HashMap::from([(String::new(), 0)]) }
    }
}

impl NameId {
    /// The name of what has none.
    pub const NONE: Self = Self(0);

    /// The name itself.
    #[must_use]
    pub fn text(self) -> String {
        names().as_ref().and_then(|names| names.names.get(self.0 as usize).cloned()).unwrap_or_default()
    }
}

static NAMES: Mutex<Option<Names>> = Mutex::new(None);

fn names() -> MutexGuard<'static, Option<Names>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Interns a name. It keeps its number as long as the process lives, so that whoever names the same thing often may
/// remember it.
#[must_use]
pub fn name(text: &str) -> NameId {
    let mut guard = names();
    let names = guard.get_or_insert_with(Names::new);
    let text = cut(text, NAME_BYTES_MAX);
    if let Some(&id) = names.ids.get(text) {
        return NameId(id);
    }
    let text = if names.names.len() < NAMES_MAX { text } else { OTHER };
    let id = u32::try_from(names.names.len()).unwrap_or(0);
    let id = *names.ids.entry(text.to_owned()).or_insert(id);
    if id as usize == names.names.len() {
        names.names.push(text.to_owned());
    }
    NameId(id)
}

/// Every name so far, by number.
pub(crate) fn all_names() -> Vec<String> {
    names().as_ref().map_or_else(Vec::new, |names| names.names.clone())
}

/// The start of a name that is too long.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::{LaneKind, Lanes, NameId, cut, name};

    #[test]
    fn a_name_keeps_its_number() {
        assert_eq!(name("one name"), name("one name"));
        assert_ne!(name("one name"), name("another name"));
        assert_eq!(name(""), NameId::NONE);
        assert_eq!(cut(&"ä".repeat(150), 201).len(), 200);
    }

    #[test]
    fn only_the_newest_lanes_are_kept() {
        let mut lanes = Lanes::new(3, 2);
        for name in ["a", "b", "c"] {
            let _ = lanes.add(name, NameId::NONE, NameId::NONE, LaneKind::Task, 1);
        }
        lanes.rename(super::LaneId(3 << 24 | 2), "d");
        lanes.rename(super::LaneId(3 << 24), "e");
        let known = |lanes: &Lanes| lanes.known(&[]).map(|lane| (lane.id, lane.name)).collect::<Vec<_>>();
        assert_eq!(known(&lanes), [(3 << 24 | 1, "b".to_owned()), (3 << 24 | 2, "d".to_owned())]);
        let mut successor = lanes.successor();
        assert_eq!(successor.add("f", NameId::NONE, NameId::NONE, LaneKind::Task, 1).0, 3 << 24 | 3);
        for text in ["x", "y", "z"] {
            lanes.add_text(text);
        }
        assert_eq!((lanes.text(0), lanes.text(2)), (None, Some("z")));
    }
}
