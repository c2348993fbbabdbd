//! What each player's score must be: at least what was acknowledged, at most what was sent.

/// Two bounds of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// An operation that was sent, and what its answer must say of its player.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) player: usize,
    bounds: Bounds,
}

/// All players' scores, and what is under way.
#[derive(Debug, Default)]
pub(super) struct History {
    players: Vec<Bounds>,
    under_way: Vec<Sent>,
    free: Vec<u32>,
    acknowledged: u64,
    unknown: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    player: usize,
    /// What was reported; nothing by whoever only looked.
    delta: i64,
    /// What was acknowledged when it was sent, its own report included.
    low: i64,
}

impl Bounds {
    pub(super) fn holds_at_most(self, score: i64) -> Result<(), String> {
        match score <= self.high {
            true => Ok(()),
            false => Err(format!(
                "a score of {score}, no more than {} was ever reported",
                self.high
            )),
        }
    }
}

impl Asked {
    pub(super) fn holds(&self, score: i64) -> Result<(), String> {
        let Bounds { low, high } = self.bounds;
        match (low..=high).contains(&score) {
            true => Ok(()),
            false => Err(format!("a score of {score}, it must be from {low} to {high}")),
        }
    }
}

impl History {
    /// Players with these scores.
    pub(super) fn new(scores: Vec<i64>) -> Self {
        let players = scores.into_iter().map(|score| Bounds {
            low: score,
            high: score,
        });
        Self {
            players: players.collect(),
            ..Self::default()
        }
    }

    /// A report is sent. Gives the token of the operation.
    pub(super) fn reported(&mut self, player: usize, delta: i64) -> u64 {
        self.players[player].high += delta;
        let low = self.players[player].low + delta;
        self.send(Sent { player, delta, low })
    }

    /// A look is sent. Gives the token of the operation.
    pub(super) fn asked(&mut self, player: usize) -> u64 {
        let low = self.players[player].low;
        self.send(Sent { player, delta: 0, low })
    }

    /// It was done. Gives what its answer must say.
    pub(super) fn answered(&mut self, token: u64) -> Asked {
        let Sent { player, delta, low } = self.take(token);
        self.players[player].low += delta;
        self.acknowledged += u64::from(delta > 0);
        let high = self.players[player].high;
        Asked {
            player,
            bounds: Bounds { low, high },
        }
    }

    /// It was not done, for certain if `not_done`.
    pub(super) fn failed(&mut self, token: u64, not_done: bool) {
        let Sent { player, delta, .. } = self.take(token);
        if not_done {
            self.players[player].high -= delta;
        } else {
            self.unknown += u64::from(delta > 0);
        }
    }

    /// What is known of a player's score now.
    pub(super) fn bounds(&self, player: usize) -> Bounds {
        self.players[player]
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    fn send(&mut self, sent: Sent) -> u64 {
        match self.free.pop() {
            Some(place) => {
                self.under_way[place as usize] = sent;
                place.into()
            }
            None => {
                self.under_way.push(sent);
                self.under_way.len() as u64 - 1
            }
        }
    }

    fn take(&mut self, token: u64) -> Sent {
        let place = u32::try_from(token).unwrap_or_default();
        self.free.push(place);
        self.under_way[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_lies_between_what_was_acknowledged_and_what_was_sent() {
        let mut history = History::new(vec![100, 200]);
        let (first, second, look) = (history.reported(0, 5), history.reported(0, 7), history.asked(0));
        assert_eq!(history.bounds(0), Bounds { low: 100, high: 112 });
        let asked = history.answered(look);
        assert!([100, 105, 112].iter().all(|score| asked.holds(*score).is_ok()));
        assert!(asked.holds(99).is_err() && asked.holds(113).is_err());
        assert!(history.answered(second).holds(107).is_ok());
        assert_eq!(history.bounds(0), Bounds { low: 107, high: 112 });
        // His own five are in it for certain.
        let asked = history.answered(first);
        assert!(asked.holds(105).is_ok() && asked.holds(104).is_err());
        assert_eq!(
            (history.bounds(0), history.acknowledged()),
            (Bounds { low: 112, high: 112 }, 2)
        );
    }

    #[test]
    fn what_failed_is_taken_back_only_if_it_was_not_done() {
        let mut history = History::new(vec![0]);
        let (refused, lost) = (history.reported(0, 5), history.reported(0, 7));
        history.failed(refused, true);
        history.failed(lost, false);
        assert_eq!((history.bounds(0), history.unknown()), (Bounds { low: 0, high: 7 }, 1));
    }
}
