//! Doubly linked lists: a slab of nodes, and chains of `u32` links through it.
//!
//! Pure: no lock and no clock. `fifo` keeps its order of insertion in one, `s3fifo` its two queues and its ghost. Links are
//! indices and not pointers: half the size, no `unsafe`, and one allocation for thousands of nodes.

/// No node.
const NIL: u32 = u32::MAX;

/// The nodes. Each node in use is in exactly one [`Chain`].
#[derive(Debug)]
pub(super) struct Slab<T> {
    nodes: Vec<Linked<T>>,
    /// The first vacant node. Vacant nodes are linked by `next`.
    vacant: u32,
}

#[derive(Debug)]
struct Linked<T> {
    prev: u32,
    next: u32,
    value: Option<T>,
}

/// The ends of one queue through a [`Slab`].
#[derive(Debug)]
pub(super) struct Chain {
    oldest: u32,
    newest: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), vacant: NIL }
    }

    /// Number of places, in use or vacant: all of them are below this.
    pub(super) fn extent(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The value at a place in use.
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.nodes.get(at as usize)?.value.as_ref()
    }

    /// Replaces the value at a place in use, and returns it.
    pub(super) fn replace(&mut self, at: u32, value: T) -> T {
        self.nodes[at as usize].value.replace(value).expect("a node in a chain has a value")
    }

    fn occupy(&mut self, value: T) -> u32 {
        let node = Linked { prev: NIL, next: NIL, value: Some(value) };
        if self.vacant != NIL {
            let at = self.vacant;
            self.vacant = self.nodes[at as usize].next;
            self.nodes[at as usize] = node;
            return at;
        }
        assert!(self.nodes.len() < NIL as usize, "a slab holds fewer than 2^32 nodes");
        if self.nodes.len() == self.nodes.capacity() {
            // By an eighth and not by doubling: a cache is full nearly always, and half a slab would stay unused.
            self.nodes.reserve_exact((self.nodes.len() / 8).max(16));
        }
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn vacate(&mut self, at: u32) -> T {
        let next = std::mem::replace(&mut self.vacant, at);
        let node = &mut self.nodes[at as usize];
        node.next = next;
        node.value.take().expect("a node in a chain has a value")
    }
}

impl Chain {
    pub(super) const fn new() -> Self {
        Self { oldest: NIL, newest: NIL, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place of the oldest value.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Appends a value, and returns its place, which stays the same until the value is removed.
    pub(super) fn push<T>(&mut self, slab: &mut Slab<T>, value: T) -> u32 {
        let at = slab.occupy(value);
        self.link(slab, at);
        at
    }

    /// Removes the value at a place of this chain.
    pub(super) fn remove<T>(&mut self, slab: &mut Slab<T>, at: u32) -> T {
        self.unlink(slab, at);
        slab.vacate(at)
    }

    /// Removes the oldest value.
    pub(super) fn pop<T>(&mut self, slab: &mut Slab<T>) -> Option<T> {
        self.oldest().map(|at| self.remove(slab, at))
    }

    /// Makes the oldest value the newest; it keeps its place.
    pub(super) fn requeue<T>(&mut self, slab: &mut Slab<T>) {
        if let Some(at) = self.oldest() {
            self.unlink(slab, at);
            self.link(slab, at);
        }
    }

    /// Moves the oldest value to the end of another chain; it keeps its place.
    pub(super) fn hand_over<T>(&mut self, slab: &mut Slab<T>, other: &mut Chain) {
        if let Some(at) = self.oldest() {
            self.unlink(slab, at);
            other.link(slab, at);
        }
    }

    fn link<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let node = &mut slab.nodes[at as usize];
        (node.prev, node.next) = (before, NIL);
        match before {
            NIL => self.oldest = at,
            before => slab.nodes[before as usize].next = at,
        }
        self.len += 1;
    }

    fn unlink<T>(&mut self, slab: &mut Slab<T>, at: u32) {
        let Linked { prev, next, .. } = slab.nodes[at as usize];
        match prev {
            NIL => self.oldest = next,
            prev => slab.nodes[prev as usize].next = next,
        }
        match next {
            NIL => self.newest = prev,
            next => slab.nodes[next as usize].prev = prev,
        }
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(chain: &mut Chain, slab: &mut Slab<u32>) -> Vec<u32> {
        std::iter::from_fn(|| chain.pop(slab)).collect()
    }

    #[test]
    fn moves_between_chains() {
        let (mut slab, mut left, mut right) = (Slab::new(), Chain::new(), Chain::new());
        for value in 0..3 {
            left.push(&mut slab, value);
        }
        left.requeue(&mut slab);
        left.hand_over(&mut slab, &mut right);
        assert_eq!(drain(&mut right, &mut slab), [1]);
        assert_eq!(drain(&mut left, &mut slab), [2, 0]);
    }

    #[test]
    fn agrees_with_a_list() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut slab, mut chain, mut model) = (Slab::new(), Chain::new(), Vec::<(u32, u32)>::new());
        let mut longest = 0;
        for value in 0..20_000_u32 {
            match random.u8(0..5) {
                0 | 1 => model.push((chain.push(&mut slab, value), value)),
                2 if !model.is_empty() => {
                    let (at, expected) = model.remove(random.usize(..model.len()));
                    assert_eq!(chain.remove(&mut slab, at), expected);
                }
                3 if !model.is_empty() => {
                    chain.requeue(&mut slab);
                    model.rotate_left(1);
                }
                4 => assert_eq!(
                    chain.pop(&mut slab),
                    (!model.is_empty()).then(|| model.remove(0)).map(|(_, value)| value)
                ),
                _ => {}
            }
            assert_eq!(chain.len(), model.len());
            assert_eq!(chain.oldest(), model.first().map(|(at, _)| *at));
            longest = longest.max(model.len());
        }
        assert_eq!(slab.extent() as usize, longest, "vacant places are used again");
    }
}
