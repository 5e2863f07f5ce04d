//! First-in-first-out and last-in-first-out order with removal from anywhere, each in constant time.
//!
//! The nodes live in a slab and are linked by their indices. A node is a member of two chains at once: one of its
//! origin's and one of the whole pool's.

use slab::Slab;

const NONE: usize = usize::MAX;

/// Which of a node's two chains is meant.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Pool = 0,
    Origin = 1,
}

/// The ends of a chain.
#[derive(Clone, Copy)]
pub(super) struct Chain {
    first: usize,
    last: usize,
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Chain {
    /// The oldest member.
    pub fn first(&self) -> Option<usize> {
        (self.first != NONE).then_some(self.first)
    }

    /// The newest member.
    pub fn last(&self) -> Option<usize> {
        (self.last != NONE).then_some(self.last)
    }
}

#[derive(Clone, Copy)]
struct Link {
    previous: usize,
    next: usize,
}

struct Node<T> {
    links: [Link; 2],
    value: T,
}

/// The members of all chains.
pub(super) struct Nodes<T>(Slab<Node<T>>);

impl<T> Default for Nodes<T> {
    fn default() -> Self {
        Self(Slab::new())
    }
}

impl<T> Nodes<T> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, key: usize) -> &T {
        &self.0[key].value
    }

    pub fn get_mut(&mut self, key: usize) -> &mut T {
        &mut self.0[key].value
    }

    /// Adds a node that is in no chain yet.
    pub fn insert(&mut self, value: T) -> usize {
        self.0.insert(Node { links: [Link { previous: NONE, next: NONE }; 2], value })
    }

    /// Forgets a node that is in no chain any more.
    pub fn remove(&mut self, key: usize) -> T {
        self.0.remove(key).value
    }

    pub fn push_back(&mut self, chain: &mut Chain, of: Of, key: usize) {
        self.0[key].links[of as usize] = Link { previous: chain.last, next: NONE };
        match chain.last {
            NONE => chain.first = key,
            last => self.0[last].links[of as usize].next = key,
        }
        chain.last = key;
    }

    pub fn unlink(&mut self, chain: &mut Chain, of: Of, key: usize) {
        let Link { previous, next } = self.0[key].links[of as usize];
        match previous {
            NONE => chain.first = next,
            previous => self.0[previous].links[of as usize].next = next,
        }
        match next {
            NONE => chain.last = previous,
            next => self.0[next].links[of as usize].previous = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chain, Nodes, Of};

    #[test]
    fn members_leave_from_both_ends_and_the_middle() {
        let mut nodes = Nodes::default();
        let (mut pool, mut origin) = (Chain::default(), Chain::default());
        let keys: Vec<usize> = (0..5).map(|value| nodes.insert(value)).collect();
        for &key in &keys {
            nodes.push_back(&mut pool, Of::Pool, key);
            if key % 2 == 0 {
                nodes.push_back(&mut origin, Of::Origin, key);
            }
        }
        for (gone, first, last) in [(2, Some(0), Some(4)), (0, Some(1), Some(4)), (4, Some(1), Some(3))] {
            nodes.unlink(&mut pool, Of::Pool, gone);
            nodes.unlink(&mut origin, Of::Origin, gone);
            nodes.remove(gone);
            assert_eq!((pool.first(), pool.last()), (first, last));
        }
        assert_eq!((origin.first(), origin.last(), nodes.len()), (None, None, 2));
        nodes.unlink(&mut pool, Of::Pool, 1);
        nodes.unlink(&mut pool, Of::Pool, 3);
        assert_eq!((pool.first(), pool.last()), (None, None));
    }
}
