//! Colour, for those who read on a terminal.
//!
//! Where nobody asked for it there is none: a stream that is not a terminal gets the bare text, and so does everybody who
//! has set `NO_COLOR` to anything at all.

use std::io::IsTerminal;

use clap::builder::styling::{AnsiColor, Style};

/// Of headings.
pub(super) const BOLD: Style = Style::new().bold();
/// Of what is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Of what says little.
pub(super) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
/// Of what failed.
pub(super) const BAD: Style = AnsiColor::Red.on_default();

/// Whether a stream gets colours.
pub(super) fn wanted(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text in this style, or as it is.
pub(super) fn paint(on: bool, style: Style, text: &str) -> String {
    if on {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_the_text_is_as_it_was() {
        assert_eq!(paint(false, BAD, "failed"), "failed");
        assert_eq!(paint(true, BAD, "failed"), "\u{1b}[31mfailed\u{1b}[0m");
    }
}
