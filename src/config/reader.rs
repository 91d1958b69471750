//! Reads settings one by one, remembers each for `worker-agents config`, and collects every error instead of stopping
//! at the first.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::outgoing::{OutgoingConfig, PeerAccess};
use super::secrets::{REDACTED, Secret, SecretSource};
use super::source::{Origin, Source};
use crate::vault::Held;

/// One setting as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Environment variable.
    pub name: &'static str,
    /// Its value; a secret's is never stored here.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it means, in a line.
    pub help: &'static str,
}

/// What is wrong with the settings, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} setting(s) are wrong:", self.0.len())?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A time as policies have it, in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What was remembered of all settings.
pub(super) struct Gathered {
    pub(super) settings: Vec<Setting>,
    pub(super) warnings: Vec<String>,
    pub(super) secrets: Vec<SecretSource>,
}

/// Reads from a [`Source`].
pub(super) struct Reader<'a> {
    source: &'a dyn Source,
    settings: Vec<Setting>,
    errors: Vec<String>,
    warnings: Vec<String>,
    /// All secrets.
    secrets: Vec<SecretSource>,
    /// What Vault gives, and whether secrets may come from elsewhere until it does.
    vault: Option<(Held, bool)>,
    /// How HTTP peers are reached.
    outgoing: Arc<OutgoingConfig>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            settings: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
            secrets: Vec::new(),
            vault: None,
            outgoing: Arc::default(),
        }
    }

    pub(super) fn finish(mut self) -> Result<Gathered, ConfigErrors> {
        self.warn_unused();
        if !self.errors.is_empty() {
            return Err(ConfigErrors(self.errors));
        }
        Ok(Gathered { settings: self.settings, warnings: self.warnings, secrets: self.secrets })
    }

    /// A secret that must not be in logs.
    pub(super) fn remember(&mut self, secret: &SecretSource) {
        self.secrets.push(secret.clone());
    }

    /// A setting that is set and does nothing is told, not ignored (INC-86).
    fn warn_unused(&mut self) {
        let read: BTreeSet<&str> = self.settings.iter().map(|setting| setting.name).collect();
        for name in super::known::NAMES {
            if !read.contains(name) && self.raw(name).is_some() {
                self.warnings.push(format!("{name} is set, and this version does not use it"));
            }
        }
    }

    /// The text of a setting. Empty counts as unset (`contracts/settings.md`).
    fn raw(&self, name: &str) -> Option<(String, Origin)> {
        self.source
            .get(name)
            .map(|(text, origin)| (text.trim().to_owned(), origin))
            .filter(|(text, _)| !text.is_empty())
    }

    /// Whether somebody has set it.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A URL whose empty text is a value of its own. Credentials in it are not remembered.
    pub(super) fn url_or_empty(&mut self, name: &'static str, default: &str, help: &'static str) -> String {
        let (value, origin) = self.source.get(name).unwrap_or_else(|| (default.to_owned(), Origin::Default));
        let value = value.trim().to_owned();
        self.settings.push(Setting { name, value: super::schema_registry::without_user_info(&value), origin, help });
        value
    }

    /// An http(s) URL without credentials; they have settings of their own.
    pub(super) fn url(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        let url = self.unchecked_url(name, help)?;
        self.check_url(name, &url);
        Some(url)
    }

    /// The same where it may be set for other programs: [`Reader::check_url`] is for whoever uses it.
    pub(super) fn unchecked_url(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        let found = self.raw(name);
        let (value, origin) = found.clone().unwrap_or_else(|| (String::new(), Origin::Default));
        self.settings.push(Setting { name, value: super::schema_registry::without_user_info(&value), origin, help });
        found.map(|(value, _)| value)
    }

    /// What is no http(s) URL, or has credentials, is an error.
    pub(super) fn check_url(&mut self, name: &str, url: &str) {
        let shown = super::schema_registry::without_user_info(url);
        let good = reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if shown != url || !good {
            self.error(format!("{name}={shown:?}: expected an http(s) URL without user info"));
        }
    }

    pub(super) fn text(&mut self, name: &'static str, default: &str, help: &'static str) -> String {
        let (value, origin) = self.raw(name).unwrap_or_else(|| (default.to_owned(), Origin::Default));
        self.settings.push(Setting { name, value: value.clone(), origin, help });
        value
    }

    pub(super) fn optional(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        let found = self.raw(name);
        let (value, origin) = found.clone().unwrap_or_else(|| (String::new(), Origin::Default));
        self.settings.push(Setting { name, value, origin, help });
        found.map(|(value, _)| value)
    }

    /// A text that `worker-agents config` does not show.
    pub(super) fn hidden(&mut self, name: &'static str, help: &'static str) -> Option<Secret> {
        let found = self.raw(name);
        let (value, origin) = match &found {
            Some((_, origin)) => (REDACTED.to_owned(), *origin),
            None => (String::new(), Origin::Default),
        };
        self.settings.push(Setting { name, value, origin, help });
        found.map(|(value, _)| Secret::new(value))
    }

    /// From now on HTTP peers are reached so.
    pub(super) fn peers_by(&mut self, outgoing: Arc<OutgoingConfig>) {
        self.outgoing = outgoing;
    }

    /// How an HTTP peer is reached whose authorities are `ca_bundle`'s, the system's without one.
    pub(super) fn peer_access(&self, ca_bundle: Option<String>) -> PeerAccess {
        PeerAccess { ca_bundle, outgoing: Arc::clone(&self.outgoing) }
    }

    /// From now on secrets may be in Vault.
    pub(super) fn secrets_from(&mut self, held: Held, fail_open: bool) {
        self.vault = Some((held, fail_open));
    }

    /// What Vault gives, and whether secrets may come from elsewhere until it does; `None`: Vault is off.
    pub(super) fn vault(&self) -> Option<(Held, bool)> {
        self.vault.clone()
    }

    /// A parsed setting; a text that does not parse is an error that names setting, text and what is expected.
    pub(super) fn parsed<T: FromStr + Display>(
        &mut self,
        name: &'static str,
        default: T,
        expected: &str,
        help: &'static str,
    ) -> T {
        let Some((text, origin)) = self.raw(name) else {
            self.settings.push(Setting { name, value: default.to_string(), origin: Origin::Default, help });
            return default;
        };
        self.settings.push(Setting { name, value: text.clone(), origin, help });
        text.parse().unwrap_or_else(|_| {
            self.error(format!("{name}={text:?}: expected {expected}"));
            default
        })
    }

    pub(super) fn boolean(&mut self, name: &'static str, default: bool, help: &'static str) -> bool {
        let text = self.text(name, if default { "true" } else { "false" }, help);
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.error(format!("{name}={text:?}: expected true or false"));
                default
            }
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn number(&mut self, name: &'static str, default: u64, least: u64, help: &'static str) -> u64 {
        let number = self.parsed(name, default, &format!("a whole number of at least {least}"), help);
        if number < least {
            self.error(format!("{name}={number}: expected a whole number of at least {least}"));
        }
        number
    }

    /// A whole number within a range.
    pub(super) fn number_within(
        &mut self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        help: &'static str,
    ) -> u64 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = self.parsed(name, default, &expected, help);
        if range.contains(&number) {
            return number;
        }
        self.error(format!("{name}={number}: expected {expected}"));
        default
    }

    /// A number of seconds above zero; fractions are allowed.
    pub(super) fn seconds(&mut self, name: &'static str, default: f64, help: &'static str) -> Duration {
        let seconds = self.parsed(name, default, "a number of seconds above zero", help);
        Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero()).unwrap_or_else(|| {
            self.error(format!("{name}={seconds}: expected a number of seconds above zero"));
            Duration::from_secs(1)
        })
    }

    /// A fraction between zero and one.
    pub(super) fn fraction(&mut self, name: &'static str, default: f64, help: &'static str) -> f64 {
        let fraction = self.parsed(name, default, "a fraction between 0 and 1", help);
        if !(0.0..=1.0).contains(&fraction) {
            self.error(format!("{name}={fraction}: expected a fraction between 0 and 1"));
        }
        fraction
    }

    /// A list: JSON when the text starts with `[`, else comma separated. `npm test` is one item (INC-86).
    pub(super) fn list(&mut self, name: &'static str, default: &str, help: &'static str) -> Vec<String> {
        let text = self.text(name, default, help);
        if text.starts_with('[') {
            return serde_json::from_str(&text).unwrap_or_else(|error| {
                self.error(format!("{name}: not a JSON list of texts ({error}); a comma separated list works too"));
                Vec::new()
            });
        }
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// A list of words of a vocabulary.
    pub(super) fn words<T: FromStr<Err: Display> + Ord>(
        &mut self,
        name: &'static str,
        default: &str,
        help: &'static str,
    ) -> BTreeSet<T> {
        let mut words = BTreeSet::new();
        for text in self.list(name, default, help) {
            match text.parse() {
                Ok(word) => {
                    words.insert(word);
                }
                Err(error) => self.error(format!("{name}: {error}")),
            }
        }
        words
    }

    /// One of a fixed set of words, in any case.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
        default: &'static str,
        help: &'static str,
    ) -> Option<T> {
        let text = self.text(name, default, help);
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text)).map(|(_, value)| *value);
        if found.is_none() {
            let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            self.error(format!("{name}={text:?}: expected one of {known}"));
        }
        found
    }

    pub(super) fn error(&mut self, error: String) {
        self.errors.push(error);
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }
}
