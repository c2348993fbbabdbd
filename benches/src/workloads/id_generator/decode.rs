//! What `GET /ids/{id}` must say of an id that was handed out in this run.
//!
//! Its parts, put together by the layout's arithmetic, must be the id again: that leaves the server no freedom. And the time
//! must be that of the clock when the id was handed out, give or take two seconds, so a server on another machine needs a
//! clock that is as right as the lab's.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use serde::Deserialize;

use super::layout::Layout;

/// How far two clocks may be apart, in milliseconds.
const APART_MS: u64 = 2_000;

/// An id that was handed out, and when that was by the lab's wall clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handed {
    /// The id.
    pub(super) id: u64,
    /// When it was asked for.
    pub(super) from_ms: u64,
    /// When the answer was in.
    pub(super) to_ms: u64,
}

/// The answer.
#[derive(Debug, Deserialize)]
pub(super) struct Decoded<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    /// The name of the layout.
    #[serde(borrow)]
    pub(super) layout: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(default)]
    node: Option<u64>,
    sequence: u64,
}

impl<'a> Decoded<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| format!("an id was decoded to unreadable JSON: {error}"))
    }

    /// Holds the answer against the id.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn check(&self, layout: Layout, handed: Handed) -> Result<(), String> {
        let id = handed.id;
        if self.layout != layout.name {
            return Err(format!("{id} was decoded as {}, not as {}", self.layout, layout.name));
        }
        if self.id != id.to_string() {
            return Err(format!("{id} was asked about, and the answer is about {}", self.id));
        }
        let time_ms = self.time_ms()?;
        if layout.compose(time_ms, self.node, self.sequence) != Some(id) {
            return Err(format!(
                "{id} is not time {}, node {:?}, sequence {} in the layout {}",
                self.time.as_deref().unwrap_or("none"),
                self.node,
                self.sequence,
                layout.name
            ));
        }
        let (least, most) = (handed.from_ms.saturating_sub(APART_MS), handed.to_ms + APART_MS);
        match time_ms {
            Some(time) if !(least..=most).contains(&time) => Err(format!(
                "{id} says it was made {} ms from when it was handed out",
                time.abs_diff(handed.to_ms)
            )),
            _ => Ok(()),
        }
    }

    /// Milliseconds since 1970.
    fn time_ms(&self) -> Result<Option<u64>, String> {
        let Some(text) = &self.time else {
            return Ok(None);
        };
        let time = humantime::parse_rfc3339(text).ok();
        let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let exact = since.filter(|since| since.subsec_nanos() % 1_000_000 == 0);
        let ms = exact.and_then(|since| u64::try_from(since.as_millis()).ok());
        ms.map(Some)
            .ok_or_else(|| format!("`{text}` is not a time in whole milliseconds, as 2026-11-25T18:00:00.123Z is"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::SEQUENCE;
    use super::*;

    /// 2022-06-28T16:07:40.105Z, node 378, sequence 0.
    const ID: u64 = 1_541_815_603_606_036_480;
    const MADE_MS: u64 = 1_656_432_460_105;

    fn check(body: &str, layout: &str, id: u64) -> Result<(), String> {
        let handed = Handed {
            id,
            from_ms: MADE_MS,
            to_ms: MADE_MS + 3,
        };
        Decoded::read(body.as_bytes())?.check(Layout::named(layout).unwrap(), handed)
    }

    fn body(id: &str, time: &str, node: u64, sequence: u64) -> String {
        format!(r#"{{"id":"{id}","layout":"twitter","time":"{time}","node":{node},"sequence":{sequence}}}"#)
    }

    const TEXT: &str = "1541815603606036480";
    const TIME: &str = "2022-06-28T16:07:40.105Z";

    #[test]
    fn an_id_decodes_to_its_parts() {
        assert_eq!(check(&body(TEXT, TIME, 378, 0), "twitter", ID), Ok(()));
        assert_eq!(
            check(r#"{"id":"7","layout":"sequence","sequence":7}"#, "sequence", 7),
            Ok(())
        );
    }

    #[test]
    fn an_id_that_decodes_to_another_is_found() {
        for (wrong, part) in [
            (
                body("1541815603606036481", TIME, 378, 0),
                "the answer is about 1541815603606036481",
            ),
            (body(TEXT, "2022-06-28T16:07:40.106Z", 378, 0), "is not time"),
            (body(TEXT, TIME, 379, 0), "is not time"),
            (body(TEXT, TIME, 378, 1), "is not time"),
            (body(TEXT, "yesterday", 378, 0), "whole milliseconds"),
            (body(TEXT, "2022-06-28T16:07:40.1054Z", 378, 0), "whole milliseconds"),
            (
                body(TEXT, TIME, 378, 0).replace("twitter", "discord"),
                "as discord, not as twitter",
            ),
            ("{}".to_owned(), "unreadable JSON"),
        ] {
            let text = check(&wrong, "twitter", ID).unwrap_err();
            assert!(text.contains(part), "{wrong}: {text}");
        }
        let number = r#"{"id":"7","layout":"sequence","sequence":8}"#;
        assert!(check(number, "sequence", 7).unwrap_err().contains("is not time none"));
    }

    #[test]
    fn a_time_that_is_not_that_of_the_clock_is_found() {
        let body = body(TEXT, TIME, 378, 0);
        let decoded = Decoded::read(body.as_bytes()).unwrap();
        let at = |from_ms, to_ms| decoded.check(Layout::named("twitter").unwrap(), Handed { id: ID, from_ms, to_ms });
        assert_eq!(at(MADE_MS + 2_000, MADE_MS + 2_000), Ok(()));
        assert_eq!(at(MADE_MS - 2_000, MADE_MS - 2_000), Ok(()));
        assert!(
            at(MADE_MS + 2_001, MADE_MS + 2_001)
                .unwrap_err()
                .contains("2001 ms from")
        );
        assert!(at(MADE_MS - 2_010, MADE_MS - 2_001).is_err());
        let number = Decoded::read(br#"{"id":"7","layout":"sequence","sequence":7}"#).unwrap();
        let whenever = Handed {
            id: 7,
            from_ms: 0,
            to_ms: 0,
        };
        assert_eq!(number.check(SEQUENCE, whenever), Ok(()), "a number has no time");
    }
}
