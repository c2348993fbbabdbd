//! The use cases, written once for all stages: make ids in one form or another, and read what an id tells.

use std::sync::Arc;

use rand::RngExt as _;
use service::Clock;
use ulid::Ulid;
use uuid::Uuid;

use crate::domain::{Count, Error, Format, Ids, Told};
use crate::layout::Layout;
use crate::ports;

/// Makes and reads ids.
pub struct Generator<I> {
    ids: I,
    /// What the numbers mean; `None` where they are counted.
    layout: Option<Layout>,
    clock: Arc<dyn Clock>,
}

impl<I: ports::Ids> Generator<I> {
    /// A generator on an adapter. `layout` says what its numbers mean; `None` where they are only counted.
    pub fn new(ids: I, layout: Option<Layout>, clock: Arc<dyn Clock>) -> Self {
        Self { ids, layout, clock }
    }

    /// Exactly so many new ids, smallest first where they have an order.
    ///
    /// # Errors
    /// Those of the stage; UUIDs and ULIDs, which ask nobody, always come.
    pub async fn make(&self, count: Count, format: Format) -> Result<Ids, Error> {
        let times = 0..count.get();
        Ok(match format {
            Format::Snowflake => Ids::Decimal(self.ids.next(count).await?),
            Format::Base62 => Ids::Base62(self.ids.next(count).await?),
            Format::UuidV4 => Ids::Uuids(times.map(|_| Uuid::new_v4()).collect()),
            Format::UuidV7 => Ids::Uuids(times.map(|_| Uuid::now_v7()).collect()),
            Format::Ulid => Ids::Ulids(ulids(self.clock.now_ms(), count)),
        })
    }

    /// What an id tells. `format` is the one in which a number is written; UUIDs and ULIDs are known by their shape.
    ///
    /// # Errors
    /// [`Error::NotAnId`]: nothing of this form is made here.
    pub fn read(&self, text: &str, format: Format) -> Result<Told, Error> {
        match format {
            Format::Base62 => self.number(base62(text).ok_or(Error::NotAnId)?),
            Format::Snowflake if text.len() == Ulid::from_parts(0, 0).to_string().len() => ulid(text),
            Format::Snowflake if text.len() > Ulid::from_parts(0, 0).to_string().len() => uuid(text),
            Format::Snowflake => self.number(decimal(text).ok_or(Error::NotAnId)?),
            Format::UuidV4 | Format::UuidV7 => uuid(text),
            Format::Ulid => ulid(text),
        }
    }

    fn number(&self, number: u64) -> Result<Told, Error> {
        match self.layout {
            None => Ok(Told::Counted(number)),
            Some(layout) => {
                let parts = layout.decompose(number).ok_or(Error::NotAnId)?;
                Ok(Told::Parts(layout.name(), parts))
            }
        }
    }
}

/// ULIDs of one request: the first is drawn, each next one is greater by one, as the specification has it for ids of one
/// millisecond that are to be in order. Those of two requests in one millisecond are in none.
fn ulids(now_ms: u64, count: Count) -> Vec<Ulid> {
    /// Less than the 80 bits, so that counting on never runs into the time.
    const DRAWN_BITS: u32 = 79;
    let first = rand::rng().random::<u128>() >> (128 - DRAWN_BITS);
    let each = (0..u128::from(count.get())).map(|place| Ulid::from_parts(now_ms, first + place));
    each.collect()
}

/// A number without sign, leading zeros or anything else that a second text would have for it.
fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The same in base62.
fn base62(text: &str) -> Option<u64> {
    let plain = text.len() <= 11 && (text.len() == 1 || !text.starts_with('0'));
    let number = ::base62::decode(text).ok()?;
    u64::try_from(number).ok().filter(|_| plain)
}

/// The first millisecond of the year 10000, which RFC 3339 cannot write.
const END_OF_TIME_MS: u64 = 253_402_300_800_000;

/// A time that an id of others' making tells: whoever writes ids by hand can write any.
fn time(time_ms: u64) -> Result<Option<u64>, Error> {
    Some(time_ms)
        .filter(|time_ms| *time_ms < END_OF_TIME_MS)
        .map(Some)
        .ok_or(Error::NotAnId)
}

fn uuid(text: &str) -> Result<Told, Error> {
    /// As it is written here, and in no other of its forms.
    const LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    let written = Some(text).filter(|text| text.len() == LENGTH).ok_or(Error::NotAnId)?;
    let uuid = Uuid::try_parse(written).map_err(|_| Error::NotAnId)?;
    match uuid.get_version_num() {
        4 => Ok(Told::Foreign("uuid_v4", None)),
        7 => {
            let (seconds, nanos) = uuid.get_timestamp().ok_or(Error::NotAnId)?.to_unix();
            Ok(Told::Foreign(
                "uuid_v7",
                time(seconds * 1_000 + u64::from(nanos) / 1_000_000)?,
            ))
        }
        _ => Err(Error::NotAnId),
    }
}

fn ulid(text: &str) -> Result<Told, Error> {
    let ulid = Ulid::from_string(text).map_err(|_| Error::NotAnId)?;
    // Beyond 128 bits, a second text would be another ULID's.
    if !text.starts_with(|first: char| ('0'..='7').contains(&first)) {
        return Err(Error::NotAnId);
    }
    Ok(Told::Foreign("ulid", time(ulid.timestamp_ms())?))
}
