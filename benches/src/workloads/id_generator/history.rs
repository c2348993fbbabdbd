//! What has been handed out during a run, and whether it may have been: each id once, in order for each node, and roughly in
//! order for all of them.
//!
//! Pure: no requests, no clock; instants are milliseconds since whenever. An answer is judged as it comes in, against what
//! was known *when its request was sent*: of two requests that overlap, either may get the smaller ids. So a request takes
//! the largest ids so far along ([`Floors`]), and its answer must be above them.
//!
//! Three things are promised. No id is given twice. Who asks a node after that node has answered gets larger ids. And who
//! asks more than a second after any node has answered gets larger ids than those.
//!
//! Ids whose answer was lost are unknown: nobody has them, so nothing can be wrong with them.

use std::collections::VecDeque;

use super::layout::Layout;
use super::seen::{LIMIT, Seen};

/// From so many milliseconds on between two requests their ids must be in order, whichever nodes answer. Both readings are
/// rounded down, so that these are more than a second.
const APART_MS: u64 = 1_001;
/// Nodes whose order is watched. What more there are is held to the other promises alone: 64 floors are taken along with
/// each request, and no server that the lab starts has as many nodes.
const MOST_NODES: usize = 64;

/// What every id of an answer must be above: what was known when its request was sent.
#[derive(Debug, Default)]
pub(super) struct Floors {
    /// Of all nodes, a second ago.
    all: Option<u64>,
    /// Of each, in the order of [`History::nodes`].
    nodes: Vec<u64>,
}

/// A node that has answered, and the largest id that it has.
#[derive(Debug, Clone, Copy)]
struct Node {
    node: u64,
    largest: u64,
}

/// All that was handed out.
#[derive(Debug)]
pub(super) struct History {
    layout: Layout,
    seen: Seen,
    nodes: Vec<Node>,
    /// The largest id by the end of each of the last milliseconds in which it grew.
    recent: VecDeque<(u64, u64)>,
    /// The largest id more than a second ago.
    settled: Option<u64>,
}

impl History {
    /// An empty history of ids in this layout.
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            seen: Seen::new(LIMIT),
            nodes: Vec::new(),
            recent: VecDeque::new(),
            settled: None,
        }
    }

    /// How its ids are made.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Nodes that have answered, 64 at the most.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Ids that were compared with all others.
    pub(super) fn compared(&self) -> u64 {
        self.seen.kept
    }

    /// Ids that there was no memory for.
    pub(super) fn forgotten(&self) -> u64 {
        self.seen.forgotten
    }

    /// A request is sent: puts down what its ids must be above.
    pub(super) fn sent(&mut self, now_ms: u64, floors: &mut Floors) {
        while let Some((at, largest)) = self.recent.front()
            && at + APART_MS <= now_ms
        {
            self.settled = Some(*largest);
            self.recent.pop_front();
        }
        floors.all = self.settled;
        floors.nodes.clear();
        floors.nodes.extend(self.nodes.iter().map(|node| node.largest));
    }

    /// An answer is in: remembers its ids, right or wrong, and says what is wrong.
    ///
    /// # Errors
    /// The first promise that is broken, in words.
    pub(super) fn answered(&mut self, now_ms: u64, floors: &Floors, asked: usize, ids: &[u64]) -> Result<(), String> {
        let mut wrong = self.shape(asked, ids).err();
        let mut rest = ids;
        while let Some((run, after)) = self.run(rest) {
            if let Err(text) = self.take(run, floors) {
                wrong.get_or_insert(text);
            }
            rest = after;
        }
        if let Some(largest) = ids.iter().max() {
            self.grow(now_ms, *largest);
        }
        wrong.map_or(Ok(()), Err)
    }

    /// What can be told of an answer alone.
    fn shape(&self, asked: usize, ids: &[u64]) -> Result<(), String> {
        if ids.len() != asked {
            return Err(format!("{asked} ids were asked for and {} came", ids.len()));
        }
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] > pair[1]) {
            return Err(format!("{} stands behind {} in one answer", pair[1], pair[0]));
        }
        match ids.iter().find(|id| !self.layout.fits(**id)) {
            Some(id) => Err(format!(
                "{id} has bits that are not used in the layout {}",
                self.layout.name
            )),
            None => Ok(()),
        }
    }

    /// The first and last of the consecutive ids at the beginning, and the rest.
    fn run<'a>(&self, ids: &'a [u64]) -> Option<((u64, u64), &'a [u64])> {
        let first = *ids.first()?;
        let (mut last, mut key, mut length) = (first, self.layout.key(first), 1);
        for id in &ids[1..] {
            let next = self.layout.key(*id);
            if key.checked_add(1) != Some(next) || self.layout.node(*id) != self.layout.node(first) {
                break;
            }
            (last, key, length) = (*id, next, length + 1);
        }
        Some(((first, last), &ids[length..]))
    }

    /// Remembers a run of one node.
    fn take(&mut self, (first, last): (u64, u64), floors: &Floors) -> Result<(), String> {
        let twice = self.seen.insert(self.layout.key(first), self.layout.key(last));
        let node = self.layout.node(first);
        let index = self.nodes.iter().position(|known| known.node == node);
        match index {
            Some(index) => self.nodes[index].largest = self.nodes[index].largest.max(last),
            None if self.nodes.len() < MOST_NODES => self.nodes.push(Node { node, largest: last }),
            None => {}
        }
        if let Some(key) = twice {
            return Err(format!("the id {} was given twice", self.layout.id(key)));
        }
        // A node that had not answered when the request was sent has no floor yet.
        match index.and_then(|index| floors.nodes.get(index)) {
            Some(floor) if first <= *floor => Err(format!(
                "node {node} gave {first} to a request that was sent after its answer with {floor}"
            )),
            _ => match floors.all {
                Some(floor) if first <= floor => Err(format!(
                    "{first} was given to a request that was sent more than a second after the answer with {floor}"
                )),
                _ => Ok(()),
            },
        }
    }

    fn grow(&mut self, now_ms: u64, largest: u64) {
        match self.recent.back_mut() {
            Some((_, known)) if *known >= largest => {}
            Some((at, known)) if *at == now_ms => *known = largest,
            None if self.settled.is_some_and(|known| known >= largest) => {}
            _ => self.recent.push_back((now_ms, largest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::layout::{LAYOUTS, SEQUENCE};
    use super::*;

    const START_MS: u64 = 1_764_000_000_000;

    fn twitter() -> Layout {
        Layout::named("twitter").unwrap()
    }

    fn id(node: u64, ms: u64, sequence: u64) -> u64 {
        twitter().compose(Some(START_MS + ms), Some(node), sequence).unwrap()
    }

    fn sent(history: &mut History, now_ms: u64) -> Floors {
        let mut floors = Floors::default();
        history.sent(now_ms, &mut floors);
        floors
    }

    /// Sends and answers at once.
    fn give(history: &mut History, now_ms: u64, ids: &[u64]) -> Result<(), String> {
        let floors = sent(history, now_ms);
        history.answered(now_ms, &floors, ids.len(), ids)
    }

    fn wrong(result: Result<(), String>, part: &str) {
        let text = result.unwrap_err();
        assert!(text.contains(part), "{text}");
    }

    #[test]
    fn an_id_given_twice_is_found_wherever_it_was_given() {
        let mut history = History::new(twitter());
        wrong(give(&mut history, 0, &[id(1, 0, 0), id(1, 0, 0)]), "given twice");
        let mut history = History::new(twitter());
        let (one, two, three) = (sent(&mut history, 0), sent(&mut history, 0), sent(&mut history, 0));
        history
            .answered(1, &one, 3, &[id(1, 0, 1), id(1, 0, 2), id(1, 0, 3)])
            .unwrap();
        history.answered(2, &two, 2, &[id(2, 0, 3), id(2, 0, 4)]).unwrap();
        let again = [id(1, 0, 0), id(1, 0, 3), id(1, 1, 0)];
        let text = history.answered(3, &three, 3, &again).unwrap_err();
        assert_eq!(text, format!("the id {} was given twice", id(1, 0, 3)));
    }

    /// Two nodes that believe to be the same one: the id of one is the id of the other.
    #[test]
    fn two_nodes_with_one_number_are_found() {
        let mut history = History::new(twitter());
        let (one, two) = (sent(&mut history, 0), sent(&mut history, 0));
        history.answered(1, &one, 1, &[id(5, 0, 0)]).unwrap();
        wrong(history.answered(1, &two, 1, &[id(5, 0, 0)]), "given twice");
    }

    #[test]
    fn too_few_ids_and_too_many_are_found() {
        for (asked, came) in [(2, 1), (1, 2), (1, 0)] {
            let mut history = History::new(SEQUENCE);
            let floors = sent(&mut history, 0);
            let ids: Vec<u64> = (1..=came).collect();
            let text = history.answered(0, &floors, asked, &ids).unwrap_err();
            assert_eq!(text, format!("{asked} ids were asked for and {came} came"));
        }
    }

    #[test]
    fn a_smaller_id_of_the_same_node_is_found_unless_the_requests_overlapped() {
        let mut history = History::new(twitter());
        let overlapping = sent(&mut history, 0);
        give(&mut history, 1, &[id(1, 5, 0)]).unwrap();
        history.answered(2, &overlapping, 1, &[id(1, 4, 9)]).unwrap();
        give(&mut history, 3, &[id(2, 3, 0)]).unwrap();
        wrong(give(&mut history, 4, &[id(1, 4, 10)]), "node 1 gave");
        wrong(give(&mut history, 5, &[id(2, 2, 0)]), "node 2 gave");
        let mut numbers = History::new(SEQUENCE);
        give(&mut numbers, 0, &[7]).unwrap();
        wrong(give(&mut numbers, 0, &[6]), "node 0 gave 6");
    }

    #[test]
    fn ids_that_decrease_in_one_answer_are_found() {
        let mut history = History::new(SEQUENCE);
        wrong(give(&mut history, 0, &[1, 3, 2]), "2 stands behind 3");
    }

    #[test]
    fn nodes_need_not_agree_within_a_second_and_must_after_it() {
        let mut history = History::new(twitter());
        give(&mut history, 0, &[id(1, 900, 0)]).unwrap();
        give(&mut history, 1_000, &[id(2, 850, 0)]).unwrap();
        wrong(give(&mut history, 1_001, &[id(3, 880, 0)]), "more than a second after");
        give(&mut history, 1_001, &[id(3, 901, 0)]).unwrap();
    }

    #[test]
    fn an_id_that_does_not_fit_the_layout_is_found() {
        let mut history = History::new(twitter());
        wrong(give(&mut history, 0, &[1 << 63]), "not used in the layout twitter");
    }

    #[test]
    fn more_nodes_than_are_watched_are_still_held_to_the_other_promises() {
        let mut history = History::new(twitter());
        for node in 0..=64 {
            give(&mut history, 0, &[id(node, 9, 0)]).unwrap();
        }
        assert_eq!(history.nodes(), 64);
        wrong(give(&mut history, 1, &[id(64, 9, 0)]), "given twice");
        wrong(give(&mut history, 2_000, &[id(64, 8, 0)]), "more than a second after");
    }

    #[test]
    fn little_is_remembered_of_the_last_second() {
        let mut history = History::new(SEQUENCE);
        for number in 0..100_000 {
            give(&mut history, number / 20, &[number]).unwrap();
        }
        assert!(history.recent.len() <= 1_001, "{}", history.recent.len());
    }

    /// A server for a history: nodes whose clocks differ by up to 0.7 s, and requests that overlap in any way.
    struct World {
        layout: Layout,
        now_ms: u64,
        /// How far the clock of each is ahead, its last time and sequence.
        nodes: Vec<(u64, u64, u64)>,
        next_number: u64,
        waiting: Vec<Pending>,
        served: Vec<Pending>,
    }

    struct Pending {
        node: usize,
        count: usize,
        floors: Floors,
        ids: Vec<u64>,
    }

    #[derive(Debug, Clone)]
    struct Step {
        pass_ms: u64,
        act: u8,
        pick: prop::sample::Index,
        count: usize,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0u64..120, 0u8..3, any::<prop::sample::Index>(), 1usize..40);
        let step = step.prop_map(|(pass_ms, act, pick, count)| Step {
            pass_ms,
            act,
            pick,
            count,
        });
        prop::collection::vec(step, 20..150)
    }

    impl World {
        fn new(layout: Layout, ahead_ms: &[u64]) -> Self {
            let ahead = if layout == SEQUENCE { &ahead_ms[..1] } else { ahead_ms };
            Self {
                layout,
                now_ms: 0,
                nodes: ahead.iter().map(|ahead| (*ahead, 0, 0)).collect(),
                next_number: 1,
                waiting: Vec::new(),
                served: Vec::new(),
            }
        }

        fn make(&mut self, node: usize) -> u64 {
            if self.layout == SEQUENCE {
                self.next_number += 1;
                return self.next_number;
            }
            let (ahead, last, sequence) = &mut self.nodes[node];
            let time = (START_MS + self.now_ms + *ahead) / 10 * 10;
            if time > *last {
                (*last, *sequence) = (time, 0);
            } else if *sequence == 255 {
                (*last, *sequence) = (*last + 10, 0);
            } else {
                *sequence += 1;
            }
            self.layout.compose(Some(*last), Some(node as u64), *sequence).unwrap()
        }

        fn serve(&mut self, index: usize) {
            let mut pending = self.waiting.swap_remove(index);
            pending.ids = (0..pending.count).map(|_| self.make(pending.node)).collect();
            self.served.push(pending);
        }

        /// Does the steps, and hands each answer over as it comes in, with the instant.
        fn run(&mut self, steps: &[Step], mut receive: impl FnMut(&mut History, u64, Pending)) -> History {
            let mut history = History::new(self.layout);
            for step in steps {
                self.now_ms += step.pass_ms;
                match step.act {
                    1 if !self.waiting.is_empty() => self.serve(step.pick.index(self.waiting.len())),
                    2 if !self.served.is_empty() => {
                        let pending = self.served.swap_remove(step.pick.index(self.served.len()));
                        receive(&mut history, self.now_ms, pending);
                    }
                    _ => self.waiting.push(Pending {
                        node: step.pick.index(self.nodes.len()),
                        count: step.count,
                        floors: sent(&mut history, self.now_ms),
                        ids: Vec::new(),
                    }),
                }
            }
            while !self.waiting.is_empty() {
                self.serve(0);
            }
            while let Some(pending) = self.served.pop() {
                receive(&mut history, self.now_ms, pending);
            }
            history
        }
    }

    /// What can be done to one answer, so that it or another is wrong.
    #[derive(Debug, Clone, Copy)]
    enum Sabotage {
        RepeatInside,
        RepeatOther,
        Shorten,
        Swap,
    }

    proptest! {
        #[test]
        fn an_honest_history_has_nothing_to_show(
            steps in steps(), ahead in prop::collection::vec(0u64..700, 1..5), layout in 0usize..5,
        ) {
            let mut given = 0;
            let mut complaints = Vec::new();
            let history = World::new(LAYOUTS[layout], &ahead).run(&steps, |history, now, pending| {
                given += pending.ids.len() as u64;
                complaints.extend(history.answered(now, &pending.floors, pending.count, &pending.ids).err());
            });
            prop_assert!(complaints.is_empty(), "{complaints:?}");
            prop_assert_eq!((history.compared(), history.forgotten()), (given, 0));
        }

        #[test]
        fn one_sabotaged_answer_is_found(
            steps in steps(), ahead in prop::collection::vec(0u64..700, 1..5), layout in 0usize..5,
            victim: prop::sample::Index, other: prop::sample::Index,
            how in prop::sample::select(vec![
                Sabotage::RepeatInside, Sabotage::RepeatOther, Sabotage::Shorten, Sabotage::Swap,
            ]),
        ) {
            let mut answers = Vec::new();
            World::new(LAYOUTS[layout], &ahead).run(&steps, |history, now, pending| {
                history.answered(now, &pending.floors, pending.count, &pending.ids).unwrap();
                answers.push((now, pending));
            });
            let (victim, other) = (victim.index(answers.len()), other.index(answers.len()));
            let stranger = answers[other].1.ids[0];
            let ids = &mut answers[victim].1.ids;
            match how {
                Sabotage::RepeatInside if ids.len() > 1 => ids[1] = ids[0],
                Sabotage::RepeatOther if victim != other => ids[0] = stranger,
                Sabotage::Swap if ids.len() > 1 => ids.swap(0, 1),
                _ => { ids.pop(); }
            }
            let mut history = History::new(LAYOUTS[layout]);
            let found = answers.iter().filter(|(now, pending)| {
                history.answered(*now, &pending.floors, pending.count, &pending.ids).is_err()
            });
            prop_assert!(found.count() >= 1, "{how:?}");
        }

        #[test]
        fn one_answer_out_of_order_is_found(
            steps in steps(), ahead in prop::collection::vec(0u64..700, 1..5), layout in 1usize..5,
        ) {
            let layout = LAYOUTS[layout];
            let mut world = World::new(layout, &ahead);
            let mut largest = 0;
            let mut history = world.run(&steps, |history, now, pending| {
                history.answered(now, &pending.floors, pending.count, &pending.ids).unwrap();
                largest = largest.max(pending.ids[pending.count - 1]);
            });
            // The unit of time before the one that was reached, by the same node and by one that never answered.
            let before = layout.time_ms(largest).unwrap() - 10;
            let same = layout.compose(Some(before), Some(layout.node(largest)), 255).unwrap();
            let stranger = layout.compose(Some(before), Some(9), 255).unwrap();
            let now = world.now_ms;
            // Its number may have been used, which is found first.
            let text = give(&mut history, now, &[same]).unwrap_err();
            prop_assert!(text.contains("after its answer with") || text.contains("given twice"), "{text}");
            wrong(give(&mut history, now + 2_000, &[stranger]), "more than a second after");
        }
    }
}
