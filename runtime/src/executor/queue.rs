//! A queue of messages under way, by their indices. It never grows: it has room for all of them.

/// First in, first out.
#[derive(Debug)]
pub(super) struct Queue {
    /// As many as a power of two.
    entries: Box<[u32]>,
    /// How many were ever taken and ever put in; both wrap.
    taken: u32,
    put: u32,
}

impl Queue {
    /// Room for so many.
    pub(super) fn new(capacity: usize) -> Queue {
        Queue { entries: vec![0; capacity.next_power_of_two()].into(), taken: 0, put: 0 }
    }

    #[inline]
    fn at(&self, number: u32) -> usize {
        number as usize & (self.entries.len() - 1)
    }

    /// How many are waiting.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.put.wrapping_sub(self.taken) as usize
    }

    /// Whether none is waiting.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts one at the end.
    #[inline]
    pub(super) fn push(&mut self, index: u32) {
        debug_assert!(self.len() < self.entries.len(), "a message waits in one place at a time");
        let at = self.at(self.put);
        self.entries[at] = index;
        self.put = self.put.wrapping_add(1);
    }

    /// The oldest.
    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        (!self.is_empty()).then(|| self.entries[self.at(self.taken)])
    }

    /// Takes the youngest.
    #[inline]
    pub(super) fn pop_last(&mut self) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        self.put = self.put.wrapping_sub(1);
        Some(self.entries[self.at(self.put)])
    }

    /// Takes the oldest.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        let first = self.first()?;
        self.taken = self.taken.wrapping_add(1);
        Some(first)
    }
}
