//! JSON: a document of about a KiB, out and in again, by the KiB.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Bench;

/// An order as a shop might send it: numbers, short texts, a list.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    paid: bool,
    note: Option<String>,
    lines: Vec<Item>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    article: u64,
    name: String,
    quantity: u32,
    price: f64,
}

fn order() -> Order {
    let item = |number: u32| Item {
        article: 7_000_000 + u64::from(number),
        name: format!("Article number {number} in \"blue\""),
        quantity: number % 4 + 1,
        price: f64::from(number) * 1.25 + 0.49,
    };
    Order {
        id: 123_456_789,
        customer: "A customer with a name of usual length".to_owned(),
        paid: true,
        note: None,
        lines: (1..=11).map(item).collect(),
    }
}

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let order = order();
    let text = serde_json::to_vec(&order)?;
    let kib = text.len() as f64 / 1024.0;
    bench.number(
        "json_encode_kb",
        "JSON, encode 1 KiB",
        format!(
            "serde_json::to_vec of a struct with a list of 11 structs, {} bytes",
            text.len()
        ),
        1.0 / kib,
        |size| {
            let start = Instant::now();
            for _ in 0..size {
                black_box(serde_json::to_vec(black_box(&order))?);
            }
            Ok(start.elapsed())
        },
    )?;
    bench.number(
        "json_decode_kb",
        "JSON, decode 1 KiB",
        format!(
            "serde_json::from_slice of the same {} bytes into the same structs",
            text.len()
        ),
        1.0 / kib,
        |size| {
            let start = Instant::now();
            for _ in 0..size {
                black_box(serde_json::from_slice::<Order>(black_box(&text))?);
            }
            Ok(start.elapsed())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_about_a_kib_and_comes_back_as_it_was() {
        let text = serde_json::to_vec(&order()).unwrap();
        assert!((900..1150).contains(&text.len()), "{}", text.len());
        assert_eq!(serde_json::from_slice::<Order>(&text).unwrap(), order());
    }
}
