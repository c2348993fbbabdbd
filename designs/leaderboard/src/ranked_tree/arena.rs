//! Nodes by number. They lie in blocks that never move: a vector of all of them would be copied as a whole when it grows,
//! and whoever inserts then would wait for that.

use std::ops::{Index, IndexMut};

/// Nodes in a block, as a power of two.
const BLOCK_BITS: u32 = 8;
const BLOCK: usize = 1 << BLOCK_BITS;

/// Values, each with a number that stays the same as long as it is here.
pub(super) struct Arena<T> {
    blocks: Vec<Vec<T>>,
    /// Numbers whose values were taken.
    free: Vec<u32>,
}

impl<T: Copy> Arena<T> {
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Takes in a value, and gives its number.
    pub(super) fn add(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self[number] = value;
            return number;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let block = self.blocks.last_mut().expect("one was pushed if there was none");
        block.push(value);
        u32::try_from(before + block.len() - 1).expect("nodes are numbered by 32 bits")
    }

    /// Gives a value out; its number may be given to another.
    pub(super) fn take(&mut self, number: u32) -> T {
        self.free.push(number);
        self[number]
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum::<usize>() - self.free.len()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.blocks[(number >> BLOCK_BITS) as usize][number as usize % BLOCK]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.blocks[(number >> BLOCK_BITS) as usize][number as usize % BLOCK]
    }
}
