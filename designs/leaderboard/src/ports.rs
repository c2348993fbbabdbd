//! What the use cases need from the world: somewhere to keep boards, that knows positions.

use std::future::Future;

use crate::domain::{BoardName, Edition, Error, From, Member, Page, Score, Settings, Standing, Submission};

/// Keeps boards. Clones are the same store.
///
/// # Contract
/// - The order of an edition is total: a higher score comes first, and of equals whoever reached the score first. Changes
///   are numbered by the store, and an equal score reached by a later change has a higher number.
/// - A member has one score in an edition. It is what the changes that were acknowledged make of it, each once.
/// - What one call answers is true at one moment between its beginning and its end. Where a board is in several places at
///   once, this holds of each member, and of positions when nobody moves: of those who move from place to place during the
///   call, a position may count some twice or not at all.
/// - An acknowledged change is seen by every later call, through this server and, where it is shared, through every other.
///   It survives the death of the process on every adapter that says it is durable.
/// - A page holds nobody twice, lacks nobody who belongs on it throughout, and is in order. Pages that follow each other by [`From::After`] hold everybody who stays
///   where he is exactly once.
pub trait Board: Clone + Send + Sync + 'static {
    /// Makes a board, if there is none of this name; gives the settings that it has.
    ///
    /// # Errors
    /// [`Error::TooManyBoards`], or the store's.
    fn create(&self, board: &BoardName, settings: Settings) -> impl Future<Output = Result<Settings, Error>> + Send;

    /// The settings of a board, if there is one.
    ///
    /// # Errors
    /// The store's.
    fn settings(&self, board: &BoardName) -> impl Future<Output = Result<Option<Settings>, Error>> + Send;

    /// Carries out a submission, and says where its member stands then. An event that was counted before is not counted
    /// again; its member is told where he stands.
    ///
    /// # Contract
    /// - An event is remembered for an hour at least; who was removed since an event is [`Error::NoMember`] when it comes
    ///   again.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::TooManyEvents`], [`Error::NoMember`], or the store's.
    fn submit(&self, edition: &Edition, submission: Submission)
    -> impl Future<Output = Result<Standing, Error>> + Send;

    /// Carries out many submissions to one edition in their order, and says of each which score its member has then. Where
    /// they stand is left open: of a thousand at once nobody can be told without finding all of them.
    ///
    /// # Contract
    /// - MUST NOT let one that is refused stop the others. The errors of each are those of [`Self::submit`].
    fn load(
        &self,
        edition: &Edition,
        submissions: Vec<Submission>,
    ) -> impl Future<Output = Vec<Result<Score, Error>>> + Send;

    /// Where a member stands, and among how many; `None` if he is not there.
    ///
    /// # Errors
    /// The store's.
    fn standing(
        &self,
        edition: &Edition,
        member: &Member,
    ) -> impl Future<Output = Result<Option<(Standing, u64)>, Error>> + Send;

    /// Where members stand, in the order in which they were asked for: `None` for those who are not there.
    ///
    /// # Errors
    /// The store's.
    fn standings(
        &self,
        edition: &Edition,
        members: &[Member],
    ) -> impl Future<Output = Result<Vec<Option<Standing>>, Error>> + Send;

    /// Up to `limit` lines.
    ///
    /// # Errors
    /// The store's.
    fn page(&self, edition: &Edition, from: From, limit: usize) -> impl Future<Output = Result<Page, Error>> + Send;

    /// A member with up to so many lines above and below him; `None` if he is not there.
    ///
    /// # Errors
    /// The store's.
    fn around(
        &self,
        edition: &Edition,
        member: &Member,
        above: usize,
        below: usize,
    ) -> impl Future<Output = Result<Option<Page>, Error>> + Send;

    /// How many members there are.
    ///
    /// # Errors
    /// The store's.
    fn count(&self, edition: &Edition) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Takes a member off; says whether he was there.
    ///
    /// # Errors
    /// The store's.
    fn remove(&self, edition: &Edition, member: &Member) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Forgets editions whose time is over, and events of more than an hour ago, by a clock in milliseconds since 1970.
    ///
    /// # Errors
    /// The store's.
    fn forget(&self, now_ms: u64) -> impl Future<Output = Result<(), Error>> + Send;
}
