//! The settings of a board as words, in which stores keep them: `best ordinal high_first all_time`.

use crate::domain::{Order, Period, Policy, Ranking, Settings};

/// As words.
pub(super) fn write(settings: Settings) -> String {
    let policy = match settings.policy {
        Policy::Best => "best",
        Policy::Latest => "latest",
        Policy::Sum => "sum",
    };
    let ranking = match settings.ranking {
        Ranking::Ordinal => "ordinal",
        Ranking::Competition => "competition",
    };
    let order = match settings.order {
        Order::HighFirst => "high_first",
        Order::LowFirst => "low_first",
    };
    let period = match settings.period {
        Period::AllTime => "all_time",
        Period::Daily => "daily",
        Period::Weekly => "weekly",
    };
    format!("{policy} {ranking} {order} {period}")
}

/// From words.
///
/// # Errors
/// [`stores::Error::Unavailable`]: something else wrote them.
pub(super) fn read(words: &str) -> Result<Settings, stores::Error> {
    let mut rest = words.split(' ');
    let mut next = || rest.next().unwrap_or_default();
    let settings = Settings {
        policy: match next() {
            "best" => Policy::Best,
            "latest" => Policy::Latest,
            "sum" => Policy::Sum,
            _ => return Err(foreign(words)),
        },
        ranking: match next() {
            "ordinal" => Ranking::Ordinal,
            "competition" => Ranking::Competition,
            _ => return Err(foreign(words)),
        },
        order: match next() {
            "high_first" => Order::HighFirst,
            "low_first" => Order::LowFirst,
            _ => return Err(foreign(words)),
        },
        period: match next() {
            "all_time" => Period::AllTime,
            "daily" => Period::Daily,
            "weekly" => Period::Weekly,
            _ => return Err(foreign(words)),
        },
    };
    Ok(settings)
}

fn foreign(words: &str) -> stores::Error {
    stores::Error::unavailable(format!("the store has a board with the settings `{words}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for policy in [Policy::Best, Policy::Latest, Policy::Sum] {
            for ranking in [Ranking::Ordinal, Ranking::Competition] {
                for order in [Order::HighFirst, Order::LowFirst] {
                    for period in [Period::AllTime, Period::Daily, Period::Weekly] {
                        let settings = Settings {
                            policy,
                            ranking,
                            order,
                            period,
                        };
                        assert_eq!(read(&write(settings)).unwrap(), settings);
                    }
                }
            }
        }
        assert!(read("best ordinal").is_err() && read("").is_err());
    }
}
