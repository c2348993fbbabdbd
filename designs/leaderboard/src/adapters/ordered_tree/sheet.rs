//! One edition of a board in memory: who is on it, and in which order.

use crate::domain::{Entry, Error, From, HIGHEST_SCORE, Member, Page, Place, Score, Standing, Submission};
use crate::ranked_tree::RankedTree;

use super::super::full;
use super::roster::Roster;

/// Bits of a key that number the changes: enough for 100,000 a second during 22 years.
const REACHED_BITS: u32 = 46;

/// Bits of a key that number the members.
const MEMBER_BITS: u32 = 28;

/// A place and who stands there as one number, in the order of the board: 54 bits say by how much the score is below the
/// highest, 46 when it was reached, 28 by whom. As large as a place alone would be, and compared as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u128);

impl Key {
    fn new(place: Place, member: u32) -> Self {
        let below = (HIGHEST_SCORE - place.score.get()).unsigned_abs();
        Self((u128::from(below) << REACHED_BITS | u128::from(place.reached)) << MEMBER_BITS | u128::from(member))
    }

    /// Before everybody with this score.
    fn first_of(score: Score) -> Self {
        Self::new(Place { score, reached: 0 }, 0)
    }

    /// After whoever stands at this place, which somebody may have made up.
    fn after(place: Place) -> Self {
        let reached = place.reached.min((1 << REACHED_BITS) - 1);
        Self(Self::new(Place { reached, ..place }, 0).0 + (1 << MEMBER_BITS))
    }

    fn place(self) -> Place {
        let reached = self.0 >> MEMBER_BITS & ((1 << REACHED_BITS) - 1);
        let below = self.0 >> (MEMBER_BITS + REACHED_BITS);
        let score = HIGHEST_SCORE - i64::try_from(below).unwrap_or_default();
        Place {
            score: Score::new(score).unwrap_or_default(),
            reached: u64::try_from(reached).unwrap_or_default(),
        }
    }

    fn member(self) -> u32 {
        u32::try_from(self.0 & ((1 << MEMBER_BITS) - 1)).unwrap_or_default()
    }
}

/// An edition.
pub(super) struct Sheet {
    roster: Roster<Key>,
    order: RankedTree,
    /// Changes up to now.
    reached: u64,
}

impl std::fmt::Debug for Sheet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sheet")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl Sheet {
    pub(super) fn new() -> Self {
        Self {
            roster: Roster::new(),
            order: RankedTree::new(),
            reached: 0,
        }
    }

    /// How many changes there were.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    pub(super) fn score(&self, member: &Member) -> Option<Score> {
        let (_, key) = self.roster.find(member.as_str())?;
        Some(key.place().score)
    }

    /// Carries out a submission, and says which score its member has then.
    pub(super) fn submit(&mut self, submission: &Submission) -> Result<Score, Error> {
        let known = self.roster.find(submission.member.as_str());
        let score = known.map(|(_, key)| key.place().score);
        let Some(score) = submission.change.of(score)? else {
            // It changes nothing, so there is one.
            return score.ok_or(Error::NoMember);
        };
        let reached = self.reached + 1;
        if reached >> REACHED_BITS > 0 {
            return Err(full("no change can be numbered any more"));
        }
        let place = Place { score, reached };
        match known {
            Some((number, old)) => {
                let key = Key::new(place, number);
                self.order.replace(old.0, key.0);
                self.roster.set(number, key);
            }
            None => {
                let number = self.roster.add(submission.member.as_str(), Key::default());
                if number >> MEMBER_BITS > 0 {
                    self.roster.remove(submission.member.as_str());
                    return Err(full("no member can be numbered any more"));
                }
                let key = Key::new(place, number);
                self.order.insert(key.0);
                self.roster.set(number, key);
            }
        }
        self.reached = reached;
        Ok(score)
    }

    pub(super) fn standing(&self, member: &Member) -> Option<Standing> {
        let (_, key) = self.roster.find(member.as_str())?;
        Some(self.standing_of(key))
    }

    pub(super) fn page(&self, from: From, limit: usize) -> Page {
        let before = match from {
            From::Top => 0,
            From::After(place) => self.order.rank(Key::after(place).0),
        };
        self.lines(before, limit)
    }

    pub(super) fn around(&self, member: &Member, above: usize, below: usize) -> Option<Page> {
        let (_, key) = self.roster.find(member.as_str())?;
        let position = self.order.position(key.0);
        let first = position.saturating_sub(above);
        Some(self.lines(first, position - first + 1 + below))
    }

    pub(super) fn remove(&mut self, member: &Member) -> bool {
        match self.roster.remove(member.as_str()) {
            Some(key) => self.order.remove(key.0),
            None => false,
        }
    }

    /// Everybody, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Place)> {
        self.order
            .iter()
            .map(|key| (self.roster.name(Key(key).member()), Key(key).place()))
    }

    fn standing_of(&self, key: Key) -> Standing {
        let score = key.place().score;
        Standing {
            score,
            before: self.order.position(key.0) as u64,
            above: self.order.rank(Key::first_of(score).0) as u64,
        }
    }

    fn lines(&self, before: usize, limit: usize) -> Page {
        let keys: Vec<Key> = self.order.from(before).map(Key).take(limit).collect();
        let entries = keys.iter().filter_map(|key| {
            Some(Entry {
                member: Member::new(self.roster.name(key.member()))?,
                place: key.place(),
            })
        });
        let above = keys
            .first()
            .map_or(before, |key| self.order.rank(Key::first_of(key.place().score).0));
        Page {
            entries: entries.collect(),
            before: before as u64,
            above: above as u64,
            more: before + keys.len() < self.order.len(),
        }
    }
}

/// An edition that is being read from a snapshot, line by line.
pub(super) struct Restoring {
    roster: Roster<Key>,
    keys: Vec<Key>,
    reached: u64,
}

impl Restoring {
    /// One after so many changes.
    pub(super) fn new(reached: u64) -> Self {
        Self {
            roster: Roster::new(),
            keys: Vec::new(),
            reached,
        }
    }

    /// The next line.
    ///
    /// # Errors
    /// No board has this line after those that came before.
    pub(super) fn add(&mut self, member: &Member, place: Place) -> Result<(), &'static str> {
        let after_last = self
            .keys
            .last()
            .is_none_or(|last| *last < Key::new(place, 0) && last.place() != place);
        if !after_last || place.reached > self.reached || self.roster.find(member.as_str()).is_some() {
            return Err("a line of a board is out of order or there twice");
        }
        let number = self.roster.add(member.as_str(), Key::default());
        let key = Key::new(place, number);
        self.roster.set(number, key);
        self.keys.push(key);
        Ok(())
    }

    /// The edition, with all its lines.
    pub(super) fn finish(self) -> Sheet {
        Sheet {
            roster: self.roster,
            order: RankedTree::from_sorted(self.keys.into_iter().map(|key| key.0)),
            reached: self.reached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(score: i64, reached: u64) -> Place {
        Place {
            score: Score::new(score).unwrap(),
            reached,
        }
    }

    #[test]
    fn a_key_holds_what_went_in_and_is_ordered_as_the_board_is() {
        let last = (1 << REACHED_BITS) - 1;
        let places = [
            place(HIGHEST_SCORE, 1),
            place(HIGHEST_SCORE, last),
            place(1, 7),
            place(0, 1),
            place(0, 2),
            place(-1, 1),
            place(-HIGHEST_SCORE, last),
        ];
        let keys: Vec<Key> = places
            .into_iter()
            .flat_map(|place| [0, 1, (1 << MEMBER_BITS) - 1].map(|member| Key::new(place, member)))
            .collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
        for (nth, key) in keys.iter().enumerate() {
            assert_eq!(key.place(), places[nth / 3]);
            assert_eq!(key.member(), [0, 1, (1 << MEMBER_BITS) - 1][nth % 3]);
            assert!(Key::first_of(key.place().score) <= *key && *key < Key::after(key.place()));
        }
    }

    #[test]
    fn what_comes_after_a_place_that_nobody_ever_had_is_the_next_score() {
        for reached in [(1 << REACHED_BITS) - 1, 1 << REACHED_BITS, HIGHEST_SCORE.unsigned_abs()] {
            let after = Key::after(place(5, reached));
            assert_eq!(after, Key::first_of(Score::new(4).unwrap()), "{reached}");
            let last = Key::new(place(-HIGHEST_SCORE, (1 << REACHED_BITS) - 1), 7);
            assert!(last < Key::after(place(-HIGHEST_SCORE, reached)), "{reached}");
        }
    }

    #[test]
    fn lines_out_of_order_are_no_snapshot() {
        let mut sheet = Restoring::new(9);
        let member = |name| Member::new(name).unwrap();
        sheet.add(&member("a"), place(5, 3)).unwrap();
        for (name, place) in [
            ("a", place(4, 1)),
            ("b", place(6, 1)),
            ("b", place(5, 3)),
            ("b", place(5, 2)),
            ("b", place(4, 10)),
        ] {
            assert!(sheet.add(&member(name), place).is_err(), "{name} {place:?}");
        }
        sheet.add(&member("b"), place(5, 4)).unwrap();
        assert_eq!(sheet.finish().count(), 2);
    }
}
