//! Where settings come from: a trait that yields strings, so that a test passes a map.

use std::collections::BTreeMap;
use std::path::Path;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The process environment.
    Environment,
    /// The `.env` file of the working directory.
    DotEnv,
    /// Set by `worker-agents dev` for its own embedded peers.
    DevStack,
    /// The built-in default.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::DotEnv => ".env",
            Self::DevStack => "dev stack",
            Self::Default => "default",
        })
    }
}

/// Yields the text of a setting. Names are upper case; the implementation ignores case (`contracts/settings.md`).
pub trait Source {
    /// The value of `name` and where it was found; `None` when it is not set.
    fn get(&self, name: &str) -> Option<(String, Origin)>;
}

/// A source of fixed values.
#[derive(Debug, Clone, Default)]
pub struct MapSource(BTreeMap<String, (String, Origin)>);

impl MapSource {
    /// A source of the process environment and of the `.env` file in the working directory; the environment wins.
    ///
    /// # Errors
    /// When the `.env` file exists and cannot be read.
    pub fn process() -> Result<Self, dotenvy::Error> {
        let mut source = Self::default();
        if Path::new(".env").is_file() {
            for pair in dotenvy::from_path_iter(".env")? {
                let (name, value) = pair?;
                source.set(&name, value, Origin::DotEnv);
            }
        }
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the process environment")]
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                source.set(name, value.to_owned(), Origin::Environment);
            }
        }
        Ok(source)
    }

    /// Sets a value, over any earlier one.
    pub fn set(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        self.0.insert(name.to_ascii_uppercase(), (value.into(), origin));
    }
}

impl<const N: usize> From<[(&str, &str); N]> for MapSource {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let mut source = Self::default();
        for (name, value) in pairs {
            source.set(name, value, Origin::Environment);
        }
        source
    }
}

impl Source for MapSource {
    fn get(&self, name: &str) -> Option<(String, Origin)> {
        self.0.get(name).cloned()
    }
}
