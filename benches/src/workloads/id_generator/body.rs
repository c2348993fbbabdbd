//! Reads `{"ids":["1","2"]}` at the speed at which a fast server can write it.
//!
//! A general JSON reader would cost more than the rest of the generator: an answer of a thousand ids is 22 KB, and there
//! may be thousands of them a second. So this accepts exactly what is promised, byte for byte, and nothing else: no white
//! space, no escapes, no other member. Eight digits are read at once where there are eight.

const HEAD: &[u8] = b"{\"ids\":[";
const TAIL: &[u8] = b"]}";
/// Digits of the largest id.
const DIGITS: usize = 20;
/// How much of a body is shown where it goes wrong, in bytes.
const EXCERPT: usize = 40;

/// Puts the ids of a body into `ids`, in place of what was there. There may be `most` of them.
///
/// # Errors
/// Why the body is not a list of ids, in words.
pub(super) fn read(body: &[u8], most: usize, ids: &mut Vec<u64>) -> Result<(), String> {
    ids.clear();
    let wrong = |rest: &[u8], wanted: &str| {
        let at = body.len() - rest.len();
        let excerpt = String::from_utf8_lossy(&rest[..rest.len().min(EXCERPT)]);
        Err(format!(
            "at byte {at} of the body there is not {wanted}, but `{excerpt}`"
        ))
    };
    let Some(mut rest) = body.strip_prefix(HEAD) else {
        return wrong(body, "the beginning of a list of ids");
    };
    if rest == TAIL {
        return Ok(());
    }
    loop {
        let Some((id, after)) = quoted(rest) else {
            return wrong(rest, "an id in quotes");
        };
        if ids.len() == most {
            return Err(format!("there are more than {most} ids"));
        }
        ids.push(id);
        match after.split_first() {
            Some((b',', next)) => rest = next,
            _ if after == TAIL => return Ok(()),
            _ => return wrong(after, "a comma or the end"),
        }
    }
}

/// An id in its quotes, and what comes after them.
fn quoted(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.strip_prefix(b"\"")?;
    let (mut id, mut rest) = (0u64, digits);
    // Twice at the most: sixteen digits cannot overflow, whatever they are.
    while digits.len() - rest.len() < 16
        && let Some((eight, after)) = rest.split_first_chunk::<8>()
        && let Some(value) = eight_digits(*eight)
    {
        id = id * 100_000_000 + value;
        rest = after;
    }
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        id = id.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = after;
    }
    let length = digits.len() - rest.len();
    let canonical = (1..=DIGITS).contains(&length) && (length == 1 || digits[0] != b'0');
    Some((id, rest.strip_prefix(b"\"").filter(|_| canonical)?))
}

/// The number that eight digits spell; `None` where one is no digit. All eight are worked on in one register: pairs are
/// put together, then pairs of pairs, then the two halves.
const fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let bytes = u64::from_le_bytes(text);
    // The second look is for what lies behind `9`: adding six carries it out of the digits. A byte of 0xfa and more would
    // carry into its neighbour, and the first look has found it already.
    if bytes & HIGH != ZEROS || bytes.wrapping_add(0x0606_0606_0606_0606) & HIGH != ZEROS {
        return None;
    }
    let ones = bytes & !HIGH;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(body: &str) -> Result<Vec<u64>, String> {
        let mut ids = vec![7];
        read(body.as_bytes(), 10, &mut ids).map(|()| ids)
    }

    #[test]
    fn ids_are_read() {
        assert_eq!(ids(r#"{"ids":[]}"#), Ok(vec![]));
        assert_eq!(ids(r#"{"ids":["0","9"]}"#), Ok(vec![0, 9]));
        assert_eq!(
            ids(r#"{"ids":["1541815603606036480","18446744073709551615"]}"#),
            Ok(vec![1_541_815_603_606_036_480, u64::MAX])
        );
    }

    #[test]
    fn whatever_is_not_exactly_a_list_of_ids_is_refused() {
        for bad in [
            "",
            "{}",
            r#"{"ids":"#,
            r#"{"ids":[1,2]}"#,
            r#"{"ids":["1",]}"#,
            r#"{"ids":["1" ,"2"]}"#,
            r#"{"ids":["1""2"]}"#,
            r#"{"ids":["1"]"#,
            r#"{"ids":["1"]} "#,
            r#"{"ids":["1"],"more":1}"#,
            r#"{"ids":[""]}"#,
            r#"{"ids":["01"]}"#,
            r#"{"ids":["00000000000000000001"]}"#,
            r#"{"ids":["-1"]}"#,
            r#"{"ids":["1a"]}"#,
            r#"{"ids":["1234567:"]}"#,
            r#"{"ids":["1234567/"]}"#,
            r#"{"ids":["18446744073709551616"]}"#,
            r#"{"ids":["184467440737095516150"]}"#,
            r#"{"ids":["12345678"#,
        ] {
            assert!(ids(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_place() {
        let error = ids(r#"{"ids":["1",2]}"#).unwrap_err();
        assert_eq!(error, "at byte 12 of the body there is not an id in quotes, but `2]}`");
        let many = format!(r#"{{"ids":["1"{}]}}"#, r#","1""#.repeat(10));
        assert_eq!(ids(&many).unwrap_err(), "there are more than 10 ids");
    }

    proptest! {
        #[test]
        fn every_number_is_read_as_it_was_written(numbers: Vec<u64>) {
            let body = serde_json::json!({ "ids": numbers.iter().map(u64::to_string).collect::<Vec<_>>() }).to_string();
            let mut found = Vec::new();
            prop_assert_eq!(read(body.as_bytes(), numbers.len(), &mut found), Ok(()));
            prop_assert_eq!(found, numbers);
        }

        #[test]
        fn eight_bytes_are_a_number_exactly_if_all_are_digits(text: [u8; 8], number in 0u64..100_000_000, at in 0usize..8) {
            let spelled: [u8; 8] = format!("{number:08}").into_bytes().try_into().unwrap();
            prop_assert_eq!(eight_digits(spelled), Some(number));
            let mut spoilt = spelled;
            spoilt[at] = text[at];
            prop_assert_eq!(eight_digits(spoilt).is_some(), text[at].is_ascii_digit());
            prop_assert_eq!(eight_digits(text).is_some(), text.iter().all(u8::is_ascii_digit));
        }
    }
}
