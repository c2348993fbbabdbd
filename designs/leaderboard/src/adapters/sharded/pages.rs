//! Pages that begin in one shard and end in another, while members move between them.
//!
//! A member who moves is put where he goes before he is taken from where he was, so at every moment he is in a shard. But a
//! page asks several, one a little later than the other, and he may have moved in between: found twice, or, worse, nowhere:
//! not yet there when the one was asked, no longer there when the other was. So a shard also knows who has left it:
//!
//! ```text
//! 1. every shard: how many changes so far?
//! 2. every shard: the lines, and who has left since then?
//! 3. whoever left and was not found, or was found twice: what does his record say?
//! ```
//!
//! After the first step everybody is in some shard. When that shard is asked in the second he is there, and found, or he
//! has left it since, and is named. His record is the truth, however often he moved.

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;

use super::shards::{Which, Window};
use super::{Sharded, only_read};
use crate::domain::{Edition, Entry, Error, From, Member, Page, Place};

/// Lines that are read of each shard beyond what is asked for: those of members who have moved meanwhile do not count.
const SPARE: usize = 8;

/// How often lines that moved away under the reader are read again. Most often once is enough; of somebody who moves
/// without a pause several tries in a row may come too late.
const TRIES: usize = 16;

impl Sharded {
    /// Up to `limit` lines.
    pub(super) async fn lines(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        let top = self.0.shards.cuts().shards() - 1;
        let (own, which) = match from {
            From::Top => (top, Which::First(limit)),
            From::After(place) => (self.0.shards.cuts().shard(place.score), Which::After(place, limit)),
        };
        let (window, before) = tokio::try_join!(
            self.0.shards.window(edition, own, which, None),
            self.counted_above(edition, own)
        )?;
        if let Some(window) = window
            && (own == 0 || window.has_more())
        {
            return Ok(alone(window, before));
        }
        for _ in 0..TRIES {
            let which = |shard: usize| match (shard.cmp(&own), from) {
                (Ordering::Greater, _) => Which::First(0),
                (Ordering::Equal, From::After(place)) => Which::After(place, limit + SPARE),
                _ => Which::First(limit + SPARE),
            };
            if let Some(all) = self.all(edition, own, from, which).await? {
                let page = all.page(self, 0, limit);
                if page.entries.is_empty() && all.windows[..=own].iter().any(Window::has_more) {
                    // All who were read have moved, and there are others.
                    continue;
                }
                return Ok(page);
            }
        }
        Err(moving())
    }

    /// A member with up to so many lines above and below.
    pub(super) async fn lines_around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<Option<Page>, Error> {
        let top = self.0.shards.cuts().shards() - 1;
        for _ in 0..TRIES {
            let Some(record) = self.record(edition, member).await? else {
                return Ok(None);
            };
            let own = self.0.shards.cuts().shard(record.score);
            let which = Which::Around(member, record.version, above, below);
            let (window, before) = tokio::try_join!(
                self.0.shards.window(edition, own, which, None),
                self.counted_above(edition, own)
            )?;
            let Some(window) = window else {
                // On his way: whoever was to place him may be gone, or a moment late.
                self.settle(edition, member, record).await.map_err(only_read)?;
                continue;
            };
            let at = window.entries.iter().position(|entry| entry.member == *member);
            let whole = own == top || at.is_some_and(|at| at == above);
            if whole && (own == 0 || window.has_more()) {
                return Ok(Some(alone(window, before)));
            }
            let which = |shard: usize| match shard.cmp(&own) {
                Ordering::Greater => Which::Last(above + SPARE),
                Ordering::Equal => Which::Around(member, record.version, above + SPARE, below + SPARE),
                Ordering::Less => Which::First(below + SPARE),
            };
            let Some(all) = self.all(edition, own, From::Top, which).await? else {
                continue;
            };
            // He himself may have moved to where his neighbours were not asked for.
            let Some(at) = all.lines.iter().position(|entry| entry.member == *member) else {
                continue;
            };
            if self.0.shards.cuts().shard(all.lines[at].place.score) != own {
                continue;
            }
            let first = at.saturating_sub(above);
            return Ok(Some(all.page(self, first, at - first + 1 + below)));
        }
        Err(moving())
    }

    /// How many are in the shards above.
    pub(super) async fn counted_above(&self, edition: &Edition, shard: usize) -> Result<u64, Error> {
        let above = shard + 1..self.0.shards.cuts().shards();
        let counts = try_join_all(above.map(|shard| self.0.shards.count(edition, shard))).await?;
        Ok(counts.into_iter().sum())
    }

    /// Lines of all shards that follow each other, with those of this shard among them. Nothing if they moved too fast, or away.
    async fn all<'a>(
        &self,
        edition: &Edition,
        own: usize,
        from: From,
        which: impl Fn(usize) -> Which<'a>,
    ) -> Result<Option<All>, Error> {
        let shards = 0..self.0.shards.cuts().shards();
        let since = try_join_all(shards.clone().map(|shard| self.0.shards.changes(edition, shard))).await?;
        let windows = shards.map(|shard| self.0.shards.window(edition, shard, which(shard), Some(since[shard])));
        match try_join_all(windows).await?.into_iter().collect() {
            Some(windows) => self.put_together(edition, own, from, windows).await,
            None => Ok(None),
        }
    }

    /// Puts together what the shards said, each at another moment, but all after it was asked how many changes they had seen.
    pub(super) async fn put_together(
        &self,
        edition: &Edition,
        own: usize,
        from: From,
        windows: Vec<Window>,
    ) -> Result<Option<All>, Error> {
        if windows.iter().any(|window| window.too_many_left) {
            return Ok(None);
        }
        let mut found: HashMap<&Member, usize> = HashMap::new();
        for entry in windows.iter().flat_map(|window| &window.entries) {
            *found.entry(&entry.member).or_default() += 1;
        }
        let left = windows.iter().flat_map(|window| &window.left);
        let missing = left.filter(|member| !found.contains_key(member));
        let twice = found.iter().filter(|(_, times)| **times > 1).map(|(member, _)| *member);
        let uncertain: HashSet<Member> = missing.chain(twice).cloned().collect();
        let mut lines: Vec<Entry> = Vec::new();
        for entry in windows.iter().flat_map(|window| &window.entries) {
            if !uncertain.contains(&entry.member) {
                lines.push(entry.clone());
            }
        }
        for member in uncertain {
            let Some(place) = self.whereabouts(edition, &member).await? else {
                continue;
            };
            // Beyond what was read of his shard there are others whom this reader does not know.
            let shard = self.0.shards.cuts().shard(place.score);
            let begins = match from {
                From::After(cursor) if shard == own => comes_before(cursor, place),
                _ => windows[shard].begins_before(place),
            };
            if begins && windows[shard].ends_after(place) {
                lines.push(Entry { member, place });
            }
        }
        if let From::After(cursor) = from {
            lines.retain(|entry| comes_before(cursor, entry.place));
        }
        // The last place of a shard comes before the first of the next, and no two of a shard are the same.
        lines.sort_by_key(|entry| (Reverse(entry.place.score), entry.place.reached));
        // Where a shard has more lines than were read, nobody knows what comes before those of the next one.
        let lowest = (0..=own).rev().find(|shard| windows[*shard].has_more()).unwrap_or(0);
        let highest = (own..windows.len()).find(|shard| windows[*shard].before > 0);
        let read = lowest..=highest.unwrap_or(windows.len());
        lines.retain(|entry| read.contains(&self.0.shards.cuts().shard(entry.place.score)));
        Ok(Some(All { windows, lines }))
    }

    /// Where a member is by his record.
    async fn whereabouts(&self, edition: &Edition, member: &Member) -> Result<Option<Place>, Error> {
        for _ in 0..TRIES {
            let Some(record) = self.record(edition, member).await? else {
                return Ok(None);
            };
            let shard = self.0.shards.cuts().shard(record.score);
            let reached = self.0.shards.reached(edition, shard, member, record.version).await?;
            if let Some(reached) = reached {
                return Ok(Some(Place {
                    score: record.score,
                    reached,
                }));
            }
            self.settle(edition, member, record).await.map_err(only_read)?;
        }
        Err(moving())
    }
}

/// Lines of all shards, best first, and what each shard said.
pub(super) struct All {
    windows: Vec<Window>,
    lines: Vec<Entry>,
}

impl All {
    /// So many of the lines from this one on.
    pub(super) fn page(&self, board: &Sharded, first: usize, limit: usize) -> Page {
        let last = self.lines.len().min(first + limit);
        let entries = self.lines[first.min(last)..last].to_vec();
        let all = |windows: &[Window]| windows.iter().map(|window| window.all).sum::<u64>();
        let Some(place) = entries.first().map(|entry| entry.place) else {
            // All of them come before what is not there.
            let before = all(&self.windows);
            return Page {
                entries,
                before,
                above: before,
                more: false,
            };
        };
        let shard = board.0.shards.cuts().shard(place.score);
        let (window, higher) = (&self.windows[shard], all(&self.windows[shard + 1..]));
        let earlier = |entry: &&Entry| comes_before(entry.place, place);
        let before = window.before + window.entries.iter().filter(earlier).count() as u64;
        let with_more = window
            .entries
            .iter()
            .filter(|entry| entry.place.score > place.score)
            .count() as u64;
        let above = match (with_more, window.entries.first()) {
            // As many as the shard said of its own first line.
            (0, Some(own)) if own.place.score == place.score => window.above,
            (with_more, _) => window.before + with_more,
        };
        Page {
            more: last < self.lines.len() || self.windows[..=shard].iter().any(Window::has_more),
            entries,
            before: higher + before,
            above: higher + above,
        }
    }
}

impl Window {
    /// Whether the shard has more lines after these.
    fn has_more(&self) -> bool {
        self.before + (self.entries.len() as u64) < self.all
    }

    /// Whether the first line comes before this place, or there is nobody before it.
    fn begins_before(&self, place: Place) -> bool {
        self.before == 0
            || self
                .entries
                .first()
                .is_some_and(|first| comes_before(first.place, place))
    }

    /// Whether the last line comes after this place, or there is nobody after it.
    fn ends_after(&self, place: Place) -> bool {
        !self.has_more() || self.entries.last().is_some_and(|last| comes_before(place, last.place))
    }
}

fn comes_before(one: Place, other: Place) -> bool {
    one.score > other.score || one.score == other.score && one.reached < other.reached
}

/// A page of one shard, below so many in others.
fn alone(window: Window, higher: u64) -> Page {
    Page {
        more: window.has_more(),
        entries: window.entries,
        before: higher + window.before,
        above: higher + window.above,
    }
}

fn moving() -> Error {
    stores::Error::unavailable("members moved faster than they could be read").into()
}
