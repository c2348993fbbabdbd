//! What a design's binary says of itself with `--describe`, for tools that start it.

use clap::ValueEnum;
use serde::Serialize;

/// What one stage is beside its name and idea.
#[derive(Debug, Serialize)]
pub struct Traits {
    /// Engines that must run beside it: `postgres`, `redis`.
    pub needs: &'static [&'static str],
    /// Capacities that a flag sets.
    pub knobs: Vec<Knob>,
    /// How many processes of it run beside each other at least: below that it is not the stage that it says it is.
    pub nodes: u32,
    /// Flags, without dashes, of further addresses that it listens on: port 0 picks a free one.
    pub listens: &'static [&'static str],
}

/// One process that needs nothing.
impl Default for Traits {
    fn default() -> Self {
        Self {
            needs: &[],
            knobs: Vec::new(),
            nodes: 1,
            listens: &[],
        }
    }
}

/// A capacity of the ledger that can be turned.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Knob {
    /// The resource.
    pub resource: &'static str,
    /// The flag that sets its capacity, without dashes.
    pub flag: &'static str,
}

/// The knobs that every service has.
pub const KNOBS: [Knob; 2] = [
    Knob {
        resource: crate::slowing::WORKERS,
        flag: "workers",
    },
    Knob {
        resource: crate::admission::RESOURCE,
        flag: "max-in-flight",
    },
];

#[derive(Serialize)]
struct Description {
    schema: u32,
    design: &'static str,
    stages: Vec<Stage>,
}

#[derive(Serialize)]
struct Stage {
    name: String,
    idea: String,
    #[serde(flatten)]
    traits: Traits,
    /// Processes that make it up.
    roles: [&'static str; 1],
}

/// The stages in order, as JSON: their names and ideas from the enum that the flag `--stage` has, the rest from `traits`.
#[must_use]
pub fn describe<S: ValueEnum>(design: &'static str, traits: impl Fn(&S) -> Traits) -> String {
    let stages = S::value_variants().iter().filter_map(|stage| {
        let value = stage.to_possible_value()?;
        let mut traits = traits(stage);
        traits.knobs.extend(KNOBS);
        Some(Stage {
            name: value.get_name().to_owned(),
            idea: value.get_help().map(ToString::to_string).unwrap_or_default(),
            traits,
            roles: ["all"],
        })
    });
    let description = Description {
        schema: 1,
        design,
        stages: stages.collect(),
    };
    // Strings and numbers alone: nothing that could fail.
    serde_json::to_string_pretty(&description).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, ValueEnum)]
    enum Two {
        /// One process.
        Alone,
        /// Several.
        Together,
    }

    #[test]
    fn a_stage_is_one_process_unless_it_says_more() {
        let text = describe("two", |stage: &Two| match stage {
            Two::Alone => Traits::default(),
            Two::Together => Traits {
                nodes: 3,
                ..Traits::default()
            },
        });
        let described: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = |stage: usize| &described["stages"][stage]["nodes"];
        assert_eq!((nodes(0), nodes(1)), (&1.into(), &3.into()));
    }
}
