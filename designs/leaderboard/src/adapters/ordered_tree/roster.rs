//! Members by name, each with a number: what a board in memory needs besides the order.
//!
//! A name is kept once; the hash table holds numbers only. Both grow by doubling, and who comes just then waits until all
//! that is there has moved. So there are 256 small ones of each: the wait is a 256th of what it would be.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Bits of a number that say in which part it is.
const PART_BITS: u32 = 8;
const PARTS: u32 = 1 << PART_BITS;

/// Members, each with a value. Their numbers are below `PARTS` times the size of the largest part.
pub(super) struct Roster<V> {
    parts: Vec<Part<V>>,
    /// With a secret of its own: names come from outside.
    hashes: RandomState,
}

struct Part<V> {
    /// Places in `slots`, by the hash of the name there.
    index: HashTable<u32>,
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
}

struct Slot<V> {
    name: Box<str>,
    value: V,
}

impl<V: Copy> Roster<V> {
    pub(super) fn new() -> Self {
        let part = || Part {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
        };
        Self {
            parts: std::iter::repeat_with(part).take(PARTS as usize).collect(),
            hashes: RandomState::new(),
        }
    }

    /// The number of a member and what is kept of him.
    pub(super) fn find(&self, name: &str) -> Option<(u32, V)> {
        let hash = self.hashes.hash_one(name);
        let (number, part) = self.part(hash);
        let place = *part
            .index
            .find(hash, |place| *part.slots[*place as usize].name == *name)?;
        Some((place << PART_BITS | number, part.slots[place as usize].value))
    }

    /// Takes in a member who is not there yet; gives his number.
    pub(super) fn add(&mut self, name: &str, value: V) -> u32 {
        let hash = self.hashes.hash_one(name);
        let number = part_of(hash);
        let part = &mut self.parts[number as usize];
        let slot = Slot {
            name: name.into(),
            value,
        };
        let place = match part.free.pop() {
            Some(place) => {
                part.slots[place as usize] = slot;
                place
            }
            None => {
                part.slots.push(slot);
                u32::try_from(part.slots.len() - 1).expect("a part has no more members than there may be in all")
            }
        };
        let (slots, hashes) = (&part.slots, &self.hashes);
        part.index
            .insert_unique(hash, place, |place| hashes.hash_one(&*slots[*place as usize].name));
        place << PART_BITS | number
    }

    /// Takes a member out, if he is there; gives what was kept of him.
    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        let hash = self.hashes.hash_one(name);
        let part = &mut self.parts[part_of(hash) as usize];
        let slots = &part.slots;
        let found = part
            .index
            .find_entry(hash, |place| *slots[*place as usize].name == *name);
        let (place, _) = found.ok()?.remove();
        let slot = &mut part.slots[place as usize];
        slot.name = Box::default();
        part.free.push(place);
        Some(slot.value)
    }

    /// The name of a member.
    pub(super) fn name(&self, number: u32) -> &str {
        let part = &self.parts[(number & (PARTS - 1)) as usize];
        &part.slots[(number >> PART_BITS) as usize].name
    }

    /// Keeps another value of a member.
    pub(super) fn set(&mut self, number: u32, value: V) {
        let part = &mut self.parts[(number & (PARTS - 1)) as usize];
        part.slots[(number >> PART_BITS) as usize].value = value;
    }

    fn part(&self, hash: u64) -> (u32, &Part<V>) {
        let number = part_of(hash);
        (number, &self.parts[number as usize])
    }
}

/// By bits from the middle: a table within the part uses the highest and the lowest.
fn part_of(hash: u64) -> u32 {
    u32::from(hash.to_le_bytes()[4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_and_named_by_number() {
        let mut roster = Roster::new();
        let numbers: Vec<u32> = (0..10_000)
            .map(|nth| roster.add(&format!("member {nth}"), nth))
            .collect();
        for (nth, number) in (0..).zip(&numbers) {
            let name = format!("member {nth}");
            assert_eq!(roster.find(&name), Some((*number, nth)));
            assert_eq!(roster.name(*number), name);
        }
        roster.set(numbers[7], 70_000);
        assert_eq!(roster.find("member 7"), Some((numbers[7], 70_000)));
        assert_eq!(roster.find("member"), None);
    }

    #[test]
    fn the_number_of_whoever_left_is_given_again_and_nobody_elses() {
        let mut roster = Roster::new();
        for round in 0..10 {
            for nth in 0..1_000 {
                roster.add(&format!("{round} {nth}"), nth);
            }
            for nth in 0..1_000 {
                assert_eq!(roster.remove(&format!("{round} {nth}")), Some(nth));
                assert_eq!(roster.remove(&format!("{round} {nth}")), None);
            }
        }
        let slots: usize = roster.parts.iter().map(|part| part.slots.len()).sum();
        // A part has some more places than members at one time, since names fall into parts by chance.
        assert!(slots < 3_000, "{slots}");
    }
}
