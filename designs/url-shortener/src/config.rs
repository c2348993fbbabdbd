//! Every flag of this design, each also an environment variable.

use clap::Parser;
use service::ServiceConfig;
use stores::Engines;

use crate::stages::Stage;

/// URL shortener: from one table to many servers on shared stores
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Which stage to run
    #[arg(long, env = "STAGE", value_enum, default_value_t = Stage::Permuted)]
    pub stage: Stage,

    /// What this program offers, as JSON, and end
    #[arg(long)]
    pub describe: bool,

    /// Everything that is the same in every design
    #[command(flatten)]
    pub service: ServiceConfig,

    /// What the stage `shared` stands on
    #[command(flatten)]
    pub engines: Engines,

    /// The address under which users reach the service, such as `https://sho.rt` [default: http:// and the listen address]
    #[arg(long, env = "PUBLIC_URL", value_parser = public_url)]
    pub public_url: Option<url::Url>,

    /// Status of a redirect. 301 and 308 may be remembered by browsers, which then neither come back nor are counted
    #[arg(long, env = "REDIRECT_STATUS", default_value_t = 302, value_parser = redirect_status)]
    pub redirect_status: u16,

    /// Let links lead to private and local addresses
    #[arg(long, env = "ALLOW_PRIVATE_TARGETS")]
    pub allow_private_targets: bool,

    /// Links kept in memory (stages `cached` to `permuted`)
    #[arg(long, env = "CACHE_LINKS", default_value_t = 250_000)]
    pub cache_links: usize,

    /// Keys, or numbers, claimed at once (from stage `pregenerated` on): what a crash may lose
    #[arg(long, env = "KEY_BLOCK", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub key_block: u32,

    /// Keys made ahead (stage `pregenerated`)
    #[arg(long, env = "KEY_STOCK", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub key_stock: u32,

    /// Keys left below which more are made (stage `pregenerated`) [default: half the stock]
    #[arg(long, env = "KEY_LOW_WATER")]
    pub key_low_water: Option<u32>,

    /// Secret of the permutation (from stage `permuted` on), 32 hexadecimal digits; the same on all servers of a database
    /// [default: made once, kept in the data directory]
    #[arg(long, env = "CODE_KEY", hide_env_values = true, value_parser = code_key)]
    pub code_key: Option<CodeKey>,
}

/// The secret of the permutation; stays out of logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeKey(pub [u8; 16]);

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeKey(secret)")
    }
}

fn public_url(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    let bare = matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
    if bare {
        Ok(url)
    } else {
        Err("must be http:// or https:// and a host, without a path".to_owned())
    }
}

fn redirect_status(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(status @ (301 | 302 | 307 | 308)) => Ok(status),
        _ => Err("must be 301, 302, 307 or 308".to_owned()),
    }
}

/// Reads 32 hexadecimal digits.
pub(crate) fn code_key(text: &str) -> Result<CodeKey, String> {
    let shaped = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok();
    number
        .filter(|_| shaped)
        .map(|number| CodeKey(number.to_be_bytes()))
        .ok_or_else(|| "must be 32 hexadecimal digits".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Config::command().debug_assert();
    }

    #[test]
    fn a_code_key_is_32_hexadecimal_digits_and_never_shown() {
        let key = code_key("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(key.0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(format!("{key:?}"), "CodeKey(secret)");
        for bad in [
            "",
            "00",
            "zz0102030405060708090a0b0c0d0e0f",
            "+00102030405060708090a0b0c0d0e0f",
        ] {
            assert!(code_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_redirects_are_a_redirect_status() {
        assert_eq!(redirect_status("308"), Ok(308));
        assert!(redirect_status("303").is_err() && redirect_status("200").is_err());
    }
}
