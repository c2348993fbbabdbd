//! `lab list`: the designs, and their stages where the binary is built.
#![expect(clippy::print_stdout, reason = "the list is the result")]

use anyhow::Result;

use crate::server::Binary;
use crate::workloads::DESIGNS;

pub(super) fn run() -> Result<u8> {
    for (design, users) in DESIGNS {
        println!("{design}: {users}");
        match Binary::find(design).and_then(|binary| binary.describe()) {
            Ok(description) => {
                for stage in description.stages {
                    let nodes = (stage.nodes > 1).then(|| format!("{} nodes", stage.nodes));
                    let needs: Vec<String> = nodes.into_iter().chain(stage.needs).collect();
                    let needs = if needs.is_empty() {
                        String::new()
                    } else {
                        format!(" (needs {})", needs.join(", "))
                    };
                    println!("  {:<14} {}{needs}", stage.name, stage.idea);
                }
            }
            Err(error) => println!("  {error:#}"),
        }
    }
    Ok(0)
}
