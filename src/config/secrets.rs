//! Secrets: one type for all of them, and the three places that they come from. What a file or Vault holds may change while
//! the worker runs; whoever uses a secret reads it each time it needs it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::reader::Reader;
use super::vault::VaultPath;
use crate::vault::Held;

/// The text shown in the place of a secret.
pub const REDACTED: &str = "(set, hidden)";

/// A secret: it cannot be printed, and its memory is overwritten once nobody has it any more. What a client library makes of
/// it is the library's own.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself, for the client that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Where a secret is.
#[derive(Debug, Clone)]
pub struct SecretSource {
    /// The setting that says so.
    setting: &'static str,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    /// The setting's own text.
    Value(Secret),
    /// The content of a file, without line ends at its end.
    File(PathBuf),
    /// A field of a secret in Vault; until Vault has given it, what else is set, if `VAULT_FAIL_OPEN` allows that.
    Vault { path: VaultPath, held: Held, meanwhile: Option<Box<SecretSource>> },
}

impl SecretSource {
    /// The secret as it is now.
    ///
    /// # Errors
    /// When the file cannot be read or holds nothing, or Vault has not given it yet. The sentence names the setting and never
    /// holds what may be the secret.
    pub fn read(&self) -> Result<Secret, String> {
        let named = |error| format!("{}: {error}", self.setting);
        match &self.place {
            Place::Value(secret) => Ok(secret.clone()),
            Place::File(path) => read_file(path).map_err(named),
            Place::Vault { path, held, meanwhile } => match (held.get(path), meanwhile) {
                (Ok(secret), _) => Ok(secret),
                (Err(_), Some(meanwhile)) => meanwhile.read(),
                (Err(error), None) => Err(named(format!("{path}: {error}"))),
            },
        }
    }

    /// Whether it may change while the worker runs.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(self.place, Place::Value(_))
    }

    /// The setting that says where it is.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// A secret that a setting holds among other things.
    pub(crate) fn of_text(setting: &'static str, text: Secret) -> Self {
        Self { setting, place: Place::Value(text) }
    }

    /// The content of a file.
    pub(crate) fn of_file(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { setting, place: Place::File(path.into()) }
    }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = Zeroizing::new(text);
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(Secret::new(text)) }
}

/// The three settings of a secret, and their help texts.
pub(super) struct SecretNames {
    pub(super) value: &'static str,
    pub(super) value_help: &'static str,
    pub(super) file: &'static str,
    pub(super) file_help: &'static str,
    pub(super) vault: &'static str,
    pub(super) vault_help: &'static str,
}

/// `secret_names!("KAFKA_SASL_PASSWORD", "SASL password")`: the settings `KAFKA_SASL_PASSWORD`, `KAFKA_SASL_PASSWORD_FILE`
/// and `KAFKA_SASL_PASSWORD_VAULT`. A third text ends the first one's help.
macro_rules! secret_names {
    ($name:literal, $what:literal) => {
        $crate::config::secrets::secret_names!($name, $what, "")
    };
    ($name:literal, $what:literal, $more:literal) => {
        $crate::config::secrets::SecretNames {
            value: $name,
            value_help: concat!($what, $more),
            file: concat!($name, "_FILE"),
            file_help: concat!("file with the ", $what, ", read again when it changes; added by this product"),
            vault: concat!($name, "_VAULT"),
            vault_help: concat!(
                "where Vault has the ",
                $what,
                ": path#field below VAULT_MOUNT_KV; added by this product"
            ),
        }
    };
}
pub(super) use secret_names;

/// Whether `worker-agents config` shows a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Plainly,
    Hidden,
}

impl Reader<'_> {
    /// A secret, in a setting, in a file that another setting names, or in Vault where a third one says.
    pub(super) fn secret(&mut self, names: &SecretNames, shown: Shown) -> Option<SecretSource> {
        self.secret_or(names, shown, "")
    }

    /// As [`Reader::secret`]; `default` is where Vault has it, if Vault is on and none of the three is set.
    pub(super) fn secret_or(
        &mut self,
        names: &SecretNames,
        shown: Shown,
        default: &'static str,
    ) -> Option<SecretSource> {
        let fixed = self.fixed(names, shown);
        let default = if fixed.is_none() && self.vault().is_some() { default } else { "" };
        let text = self.text(names.vault, default, names.vault_help);
        if text.is_empty() {
            return fixed;
        }
        let path: VaultPath = match text.parse() {
            Ok(path) => path,
            Err(error) => {
                self.error(format!("{}={text:?}: {error}", names.vault));
                return fixed;
            }
        };
        let Some((held, fail_open)) = self.vault() else {
            self.error(format!("{}: secrets come from Vault with VAULT_ENABLED=true only", names.vault));
            return fixed;
        };
        held.want(&path);
        if let Some(fixed) = fixed.as_ref().filter(|_| !fail_open) {
            let setting = fixed.setting();
            self.warn(format!("{setting} has no effect beside {} with VAULT_FAIL_OPEN=false", names.vault));
        }
        let meanwhile = fixed.filter(|_| fail_open).map(Box::new);
        let source = SecretSource { setting: names.vault, place: Place::Vault { path, held, meanwhile } };
        if shown == Shown::Hidden {
            self.remember(&source);
        }
        Some(source)
    }

    /// A secret that is not in Vault.
    pub(super) fn fixed(&mut self, names: &SecretNames, shown: Shown) -> Option<SecretSource> {
        let value = self.value(names, shown);
        let path = self.optional(names.file, names.file_help);
        let source = match (value, path) {
            (Some(_), Some(_)) => {
                self.error(format!("{} and {} are both set; keep one of them", names.value, names.file));
                return None;
            }
            (Some(value), None) => SecretSource::of_text(names.value, value),
            (None, Some(path)) => SecretSource::of_file(names.file, path),
            (None, None) => return None,
        };
        if let Err(error) = source.read() {
            self.error(error);
        }
        if shown == Shown::Hidden {
            self.remember(&source);
        }
        Some(source)
    }

    /// The settings of a secret that this worker has no use for: whatever they hold is no error, and is not looked up.
    pub(super) fn unused_secret(&mut self, names: &SecretNames, shown: Shown) {
        self.value(names, shown);
        self.optional(names.file, names.file_help);
        self.optional(names.vault, names.vault_help);
    }

    fn value(&mut self, names: &SecretNames, shown: Shown) -> Option<Secret> {
        match shown {
            Shown::Plainly => self.optional(names.value, names.value_help).map(Secret::new),
            Shown::Hidden => self.hidden(names.value, names.value_help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, MapSource};

    fn read(pairs: &[(&str, &str)]) -> Result<Config, crate::config::ConfigErrors> {
        let mut source = MapSource::default();
        for (name, value) in pairs {
            source.set(name, *value, crate::config::Origin::Environment);
        }
        Config::read(&source)
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), REDACTED);
        let config = read(&[("HTTP_API_TOKEN", "ops=hunter2-hunter2-hunter2"), ("TEMPORAL_API_KEY", "hunter2")]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_in_vault_is_had_once_vault_has_given_it_and_from_the_setting_until_then() {
        let vault = [("VAULT_ENABLED", "true"), ("TEMPORAL_API_KEY_VAULT", "worker/temporal#api_key")];
        for (fixed, open, before) in [
            (None, "true", Err("TEMPORAL_API_KEY_VAULT: worker/temporal#api_key: Vault has not been asked yet")),
            (Some("static"), "true", Ok("static")),
            (
                Some("static"),
                "false",
                Err("TEMPORAL_API_KEY_VAULT: worker/temporal#api_key: Vault has not been asked yet"),
            ),
        ] {
            let mut pairs = vault.to_vec();
            pairs.push(("VAULT_FAIL_OPEN", open));
            pairs.extend(fixed.map(|text| ("TEMPORAL_API_KEY", text)));
            let config = read(&pairs).expect("settings");
            let key = config.temporal.api_key.expect("a key");
            let seen = key.read();
            assert_eq!(seen.as_ref().map(Secret::expose).map_err(String::as_str), before);
            let held = &config.vault.as_ref().expect("enabled").held;
            held.put("worker/temporal", [("api_key".to_owned(), Secret::new("from-vault"))].into());
            assert_eq!(key.read().expect("held").expose(), "from-vault");
            // A secret that was written anew without the field does not bring the old one back.
            held.put("worker/temporal", crate::vault::Fields::default());
            assert_eq!(key.read().expect("held").expose(), "from-vault");
            let warned = config.warnings.iter().any(|warning| warning.contains("TEMPORAL_API_KEY has no effect"));
            assert_eq!(warned, open == "false");
        }
    }

    #[test]
    fn the_platforms_path_holds_kafkas_credentials_unless_they_are_set() {
        let sasl = [("VAULT_ENABLED", "true"), ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")];
        let held = read(&sasl).expect("settings").vault.expect("enabled").held;
        assert_eq!(held.paths(), ["worker/kafka"]);
        let mut fixed = sasl.to_vec();
        fixed.extend([("KAFKA_SASL_USERNAME", "u"), ("KAFKA_SASL_PASSWORD", "p")]);
        assert!(read(&fixed).expect("settings").vault.expect("enabled").held.paths().is_empty());
    }

    #[test]
    fn where_vault_is_off_or_the_place_is_none_the_setting_is_an_error() {
        for (value, vault, expected) in [
            ("worker/kafka#password", "false", "VAULT_ENABLED=true"),
            ("worker/kafka", "true", "path#field"),
            ("/worker/kafka#password", "true", "path#field"),
            ("worker/../kafka#password", "true", "path#field"),
            ("worker/kafka#", "true", "path#field"),
            ("worker/ka fka#x", "true", "path#field"),
            ("worker/kafka?x#x", "true", "path#field"),
        ] {
            let error =
                read(&[("VAULT_ENABLED", vault), ("TEMPORAL_API_KEY_VAULT", value)]).expect_err(value).to_string();
            assert!(error.contains("TEMPORAL_API_KEY_VAULT") && error.contains(expected), "{value}: {error}");
        }
    }
}
