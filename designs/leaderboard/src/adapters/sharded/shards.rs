//! Shards: who is between two scores, in order. What is in them follows the records.

use redis::{Value, cmd};
use stores::Redis;

use super::home::{Pace, Record};
use super::places::{self, Cuts};
use super::scripts::{GONE_MS, LEAVE, LEFT, PLACE, STANDINGS, WINDOW};
use crate::adapters::in_redis::{Foreign, LARGEST_SCRIPT, Lines, ask, entries, foreign, standing, standings, tag};
use crate::domain::{Edition, Entry, Error, Member, Place, Standing};

/// All shards of all editions.
pub(super) struct Shards {
    /// The cluster, as seen from each partition.
    parts: Vec<Redis>,
    cuts: Cuts,
}

/// Which lines of a shard.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    First(usize),
    Last(usize),
    After(Place, usize),
    Around(&'a Member, u64, usize, usize),
}

/// Lines of a shard that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) entries: Vec<Entry>,
    /// How many of this shard come before the first of them.
    pub(super) before: u64,
    /// How many of these have a higher score than he has.
    pub(super) above: u64,
    /// How many there are in this shard.
    pub(super) all: u64,
    /// Who has left it lately, if that was asked.
    pub(super) left: Vec<Member>,
    /// Whether more have left it than can be named.
    pub(super) too_many_left: bool,
}

/// The keys of a shard.
struct Keys {
    tag: &'static str,
    partition: usize,
    name: String,
}

impl Keys {
    fn key(&self, part: &str) -> String {
        format!("lb:{{{}}}:{part}:{}", self.tag, self.name)
    }

    fn gone(&self, member: &Member) -> String {
        format!("lb:{{{}}}:gone:{}:{}", self.tag, self.name, member.as_str())
    }
}

impl Shards {
    pub(super) fn new(parts: Vec<Redis>, cuts: Cuts) -> Self {
        Self { parts, cuts }
    }

    pub(super) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    fn keys(&self, edition: &Edition, shard: usize) -> Keys {
        let partition = self.cuts.partition(edition, shard);
        Keys {
            tag: places::tag(partition),
            partition,
            name: format!("{}/{}/{shard}", edition.board, edition.number),
        }
    }

    /// Puts members where their records say, in this order, unless something newer is known there. Answers where they stand
    /// in this shard.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn place(
        &self,
        edition: &Edition,
        shard: usize,
        members: &[(&Member, Record)],
        pace: Pace,
    ) -> Result<Vec<Standing>, Error> {
        let keys = self.keys(edition, shard);
        let mut standings = Vec::with_capacity(members.len());
        for some in members.chunks(LARGEST_SCRIPT) {
            let mut call = PLACE.key(keys.key("order"));
            call.key(keys.key("tags")).key(keys.key("changes"));
            call.arg(edition.forgotten_at.unwrap_or(0));
            for (member, record) in some {
                call.key(keys.gone(member));
                call.arg(member.as_str()).arg(record.score.get()).arg(record.version);
            }
            for answer in &pace.run(&self.parts[keys.partition], &call).await? {
                standings.push(standing(answer).map_err(stores::Error::unknown)?);
            }
        }
        Ok(standings)
    }

    /// Takes a member away who is not here from this version on.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn leave(
        &self,
        edition: &Edition,
        shard: usize,
        member: &Member,
        version: u64,
    ) -> Result<(), Error> {
        let keys = self.keys(edition, shard);
        let mut call = LEAVE.key(keys.key("order"));
        call.key(keys.key("tags"))
            .key(keys.key("changes"))
            .key(keys.key("left"))
            .key(keys.gone(member));
        call.arg(edition.forgotten_at.unwrap_or(0))
            .arg(GONE_MS)
            .arg(LEFT)
            .arg(member.as_str())
            .arg(version);
        Ok(self.parts[keys.partition].run(&call).await?)
    }

    /// Where members stand in a shard, nothing of those who have not got there yet; and how many there are.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn standings(
        &self,
        edition: &Edition,
        shard: usize,
        members: &[(&Member, Record)],
    ) -> Result<(Vec<Option<Standing>>, u64), Error> {
        let keys = self.keys(edition, shard);
        let (mut all, mut count) = (Vec::with_capacity(members.len()), 0);
        for some in members.chunks(LARGEST_SCRIPT) {
            let mut call = STANDINGS.key(keys.key("order"));
            call.key(keys.key("tags"));
            for (member, record) in some {
                call.arg(member.as_str()).arg(record.version);
            }
            let answers: Vec<Value> = ask(&self.parts[keys.partition], &call).await?;
            let (some, now) = standings(&answers).map_err(foreign)?;
            all.extend(some);
            count = now;
        }
        Ok((all, count))
    }

    /// How many are in a shard.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn count(&self, edition: &Edition, shard: usize) -> Result<u64, Error> {
        let keys = self.keys(edition, shard);
        Ok(self.parts[keys.partition]
            .read(cmd("ZCARD").arg(keys.key("order")))
            .await?)
    }

    /// How many changes a shard has seen.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn changes(&self, edition: &Edition, shard: usize) -> Result<u64, Error> {
        let keys = self.keys(edition, shard);
        let changes: Option<u64> = self.parts[keys.partition]
            .read(cmd("GET").arg(keys.key("changes")))
            .await?;
        Ok(changes.unwrap_or(0))
    }

    /// When a member of a shard reached the score that this version of his record has, if he is here.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn reached(
        &self,
        edition: &Edition,
        shard: usize,
        member: &Member,
        version: u64,
    ) -> Result<Option<u64>, Error> {
        let keys = self.keys(edition, shard);
        let mut command = cmd("HGET");
        command.arg(keys.key("tags")).arg(member.as_str());
        let found: Option<String> = self.parts[keys.partition].read(&command).await?;
        let Some(found) = found else { return Ok(None) };
        let (tag, of) = found.split_once(' ').ok_or(Foreign).map_err(foreign)?;
        let reached = crate::adapters::in_redis::reached(tag)
            .ok_or(Foreign)
            .map_err(foreign)?;
        Ok((of.parse() == Ok(version)).then_some(reached))
    }

    /// Lines of a shard; with `since`, also who has left it after that change. Nothing if the lines are to be around a member
    /// who is not here by then.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn window(
        &self,
        edition: &Edition,
        shard: usize,
        which: Which<'_>,
        since: Option<u64>,
    ) -> Result<Option<Window>, Error> {
        let keys = self.keys(edition, shard);
        let mut call = WINDOW.key(keys.key("order"));
        call.key(keys.key("tags")).key(keys.key("left"));
        call.arg(since.map_or_else(String::new, |since| since.to_string()))
            .arg(LEFT);
        match which {
            Which::First(limit) => call.arg("first").arg(limit),
            Which::Last(limit) => call.arg("last").arg(limit),
            Which::After(place, limit) => call
                .arg("after")
                .arg(limit)
                .arg(place.score.get())
                .arg(tag(place.reached)),
            Which::Around(member, version, above, below) => call
                .arg("around")
                .arg(above)
                .arg(below)
                .arg(member.as_str())
                .arg(version),
        };
        let found: Option<(Lines, Vec<String>, bool)> = ask(&self.parts[keys.partition], &call).await?;
        let Some(((before, above, all, found), left, too_many_left)) = found else {
            return Ok(None);
        };
        let left = left.iter().map(|name| Member::new(name)).collect::<Option<_>>();
        Ok(Some(Window {
            entries: entries(&found).map_err(foreign)?,
            before,
            above,
            all,
            left: left.ok_or(Foreign).map_err(foreign)?,
            too_many_left,
        }))
    }
}
