//! Who runs on which core.
//!
//! The generator gets the last core and the server the others, so that neither takes time from the other. A thread sets
//! its own affinity before it starts the server, because a child inherits it.

use serde::{Deserialize, Serialize};

use crate::platform;

/// The division of this machine's cores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Cores of the server; empty where nothing is pinned.
    pub server_cores: Vec<usize>,
    /// The core of the generator; null where nothing is pinned.
    pub generator_core: Option<usize>,
    /// The same in words.
    pub text: String,
}

impl Layout {
    /// The layout for this machine, as far as it may be used.
    pub fn detect() -> Self {
        Self::of(platform::allowed_cores(), platform::PINNING)
    }

    fn of(mut cores: Vec<usize>, obstacle: Option<&str>) -> Self {
        let shared = |text: &str| Self {
            server_cores: Vec::new(),
            generator_core: None,
            text: text.to_owned(),
        };
        if let Some(text) = obstacle {
            return shared(text);
        }
        match cores.pop() {
            Some(last) if !cores.is_empty() => Self {
                text: format!("server on core {}, generator on core {last}", list(&cores)),
                server_cores: cores,
                generator_core: Some(last),
            },
            _ => shared("one core for generator and server: not pinned, and the generator takes time from the server"),
        }
    }

    /// How many cores generator and server share; `None` where they are apart.
    pub fn shared_cores(&self) -> Option<f64> {
        self.generator_core
            .is_none()
            .then(|| std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64))
    }

    /// Binds the calling thread to the generator's core, and puts it and the servers that it starts ahead of other work.
    pub fn take_place(&mut self) {
        if platform::raise_priority() {
            self.text += ", both at raised priority";
        }
        self.pin(self.generator_core.as_slice());
    }

    /// Binds the calling thread, and what it starts, to the server's cores.
    pub fn pin_server(&self) {
        self.pin(&self.server_cores);
    }

    fn pin(&self, cores: &[usize]) {
        if !cores.is_empty()
            && let Err(error) = platform::pin(cores)
        {
            eprintln!("lab: cannot pin to core {}: {error}", list(cores));
        }
    }
}

fn list(cores: &[usize]) -> String {
    match cores {
        [first, .., last] if last - first + 1 == cores.len() => format!("{first}-{last}"),
        _ => cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_has_the_last_core_to_itself() {
        let layout = Layout::of(vec![0, 1], None);
        assert_eq!((layout.server_cores, layout.generator_core), (vec![0], Some(1)));
        assert_eq!(
            Layout::of(vec![0, 1, 2, 3], None).text,
            "server on core 0-2, generator on core 3"
        );
        assert_eq!(
            Layout::of(vec![0, 2, 5], None).text,
            "server on core 0,2, generator on core 5"
        );
    }

    #[test]
    fn what_cannot_be_pinned_is_said() {
        assert!(Layout::of(vec![0], None).text.starts_with("one core"));
        assert_eq!(Layout::of(vec![0, 1], Some("no")).text, "no");
        assert_eq!(Layout::of(vec![], None).generator_core, None);
    }
}
