//! Boards that break one promise each: the comparison finds every one of them, or it would prove nothing.

use leaderboard::adapters::OrderedTree;
use leaderboard::domain::{
    BoardName, Change, Edition, Entry, Error, From, Member, Page, Score, Settings, Standing, Submission,
};
use leaderboard::ports::Board;
use testkit::contract::Fixture;

use super::adapters::ordered_tree;
use super::model;

#[derive(Clone, Copy, Debug)]
enum Sabotage {
    /// Acknowledges and forgets one change in twenty.
    Forgets,
    /// Whoever is called lower in the alphabet ranks higher: what a sorted set does by itself.
    TiesByName,
    /// A worse score replaces a better one.
    TakesWorse,
    /// An event counts each time.
    CountsTwice,
    /// A page begins one line too late.
    SkipsALine,
}

#[derive(Clone)]
struct Sabotaged(OrderedTree, Sabotage);

impl Sabotaged {
    fn sabotage(&self, submission: &mut Submission) {
        match (self.1, submission.change) {
            (Sabotage::Forgets, Change::SetTo(score)) if score.get() == 5 => {
                submission.change = Change::Add(model::score(0));
            }
            (Sabotage::TakesWorse, Change::RaiseTo(score)) => submission.change = Change::SetTo(score),
            (Sabotage::CountsTwice, _) => submission.event = None,
            _ => {}
        }
    }
}

impl Board for Sabotaged {
    async fn create(&self, board: &BoardName, settings: Settings) -> Result<Settings, Error> {
        self.0.create(board, settings).await
    }

    async fn settings(&self, board: &BoardName) -> Result<Option<Settings>, Error> {
        self.0.settings(board).await
    }

    async fn submit(&self, edition: &Edition, mut submission: Submission) -> Result<Standing, Error> {
        self.sabotage(&mut submission);
        self.0.submit(edition, submission).await
    }

    async fn load(&self, edition: &Edition, mut submissions: Vec<Submission>) -> Vec<Result<Score, Error>> {
        for submission in &mut submissions {
            self.sabotage(submission);
        }
        self.0.load(edition, submissions).await
    }

    async fn standing(&self, edition: &Edition, member: &Member) -> Result<Option<(Standing, u64)>, Error> {
        self.0.standing(edition, member).await
    }

    async fn standings(&self, edition: &Edition, members: &[Member]) -> Result<Vec<Option<Standing>>, Error> {
        self.0.standings(edition, members).await
    }

    async fn page(&self, edition: &Edition, from: From, limit: usize) -> Result<Page, Error> {
        let mut page = self.0.page(edition, from, limit).await?;
        match self.1 {
            Sabotage::TiesByName => {
                page.entries
                    .sort_by_key(|Entry { member, place }| (-place.score.get(), member.clone()));
            }
            Sabotage::SkipsALine if from != From::Top && !page.entries.is_empty() => {
                page.entries.remove(0);
            }
            _ => {}
        }
        Ok(page)
    }

    async fn around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> Result<Option<Page>, Error> {
        self.0.around(edition, member, above, below).await
    }

    async fn count(&self, edition: &Edition) -> Result<u64, Error> {
        self.0.count(edition).await
    }

    async fn remove(&self, edition: &Edition, member: &Member) -> Result<bool, Error> {
        self.0.remove(edition, member).await
    }

    async fn forget(&self, now_ms: u64) -> Result<(), Error> {
        self.0.forget(now_ms).await
    }
}

#[test]
fn a_board_that_breaks_a_promise_is_found() {
    testkit::contract::run(async {
        for sabotage in [
            Sabotage::Forgets,
            Sabotage::TiesByName,
            Sabotage::TakesWorse,
            Sabotage::CountsTwice,
            Sabotage::SkipsALine,
        ] {
            let fixture: Fixture<OrderedTree> = ordered_tree().await;
            let board = Sabotaged(fixture.adapter().clone(), sabotage);
            let mut found = false;
            for seed in 0..5 {
                found |= model::compare(&board, seed).await.is_err();
            }
            assert!(found, "{sabotage:?}");
        }
    });
}
