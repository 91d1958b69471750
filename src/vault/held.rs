//! What Vault has given, for whoever uses it: values of paths, and how Vault stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Secret, VaultPath};

/// The fields of one secret.
pub type Fields = BTreeMap<String, Secret>;

/// What Vault has given. Clones share it.
#[derive(Clone, Default)]
pub struct Held(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By path, what settings name there.
    places: BTreeMap<String, Place>,
    standing: Standing,
}

/// The secret at a path.
#[derive(Default)]
struct Place {
    wanted: BTreeSet<String>,
    /// What of it was ever given, as it was last.
    had: Fields,
    /// Why the rest is not.
    trouble: Option<String>,
}

/// What became of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether anything is not as it was.
    pub news: bool,
    /// A field that settings name and the answer lacks.
    pub lacks: Option<String>,
}

/// How Vault stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has not answered yet.
    #[default]
    Unasked,
    /// Everything that is wanted is held and fresh.
    Good,
    /// What was wrong with the last try. What was held before is held still.
    Failing(String),
}

impl Held {
    /// From now on this field is read.
    pub fn want(&self, path: &VaultPath) {
        self.state().places.entry(path.path.clone()).or_default().wanted.insert(path.field.clone());
    }

    /// Every path that is wanted.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.state().places.keys().cloned().collect()
    }

    /// The field as it is now. Once had, it is had for ever.
    ///
    /// # Errors
    /// Why it is not held.
    pub fn get(&self, path: &VaultPath) -> Result<Secret, String> {
        let state = self.state();
        let place = state.places.get(&path.path);
        let trouble = || place.and_then(|place| place.trouble.clone());
        place
            .and_then(|place| place.had.get(&path.field).cloned())
            .ok_or_else(|| trouble().unwrap_or_else(|| "Vault has not been asked yet".to_owned()))
    }

    /// What Vault has at a path. A field that it lacks now, and had before, stays as it was.
    pub fn put(&self, path: &str, mut fields: Fields) -> Taken {
        let mut state = self.state();
        let place = state.places.entry(path.to_owned()).or_default();
        let mut taken = Taken { news: false, lacks: None };
        for field in &place.wanted {
            match fields.remove(field) {
                Some(secret) => taken.news |= place.had.insert(field.clone(), secret.clone()) != Some(secret),
                None => taken.lacks = Some(field.clone()),
            }
        }
        place.trouble = taken.lacks.as_ref().map(|field| format!("the secret has no field {field} that is a text"));
        taken
    }

    /// Nothing was had. What is held stays.
    pub fn miss(&self, path: &str, reason: &str) {
        self.state().places.entry(path.to_owned()).or_default().trouble = Some(reason.to_owned());
    }

    /// How Vault stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// Tells how Vault stands; whether that is news.
    pub(super) fn stands(&self, standing: Standing) -> bool {
        let mut state = self.state();
        std::mem::replace(&mut state.standing, standing.clone()) != standing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&self.paths()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), Secret::new(*text))).collect()
    }

    #[test]
    fn what_is_held_stays_when_vault_gives_nothing_or_has_lost_it() {
        let held = Held::default();
        let path: VaultPath = "worker/kafka#password".parse().expect("a path");
        held.want(&path);
        assert!(held.get(&path).expect_err("unasked").contains("not been asked"));
        held.miss("worker/kafka", "sealed");
        assert_eq!(held.get(&path), Err("sealed".to_owned()));
        let lacks = Taken { news: false, lacks: Some("password".to_owned()) };
        assert_eq!(held.put("worker/kafka", fields(&[("user", "u")])), lacks);
        assert!(held.get(&path).expect_err("no field").contains("no field password"));
        assert_eq!(held.put("worker/kafka", fields(&[("password", "hunter2")])), Taken { news: true, lacks: None });
        assert_eq!(held.put("worker/kafka", fields(&[("password", "hunter2")])), Taken { news: false, lacks: None });
        held.miss("worker/kafka", "sealed");
        assert_eq!(held.get(&path), Ok(Secret::new("hunter2")));
        // Somebody has written the secret anew, without this field.
        assert_eq!(held.put("worker/kafka", fields(&[("other", "x")])), lacks);
        assert_eq!(held.get(&path), Ok(Secret::new("hunter2")));
        assert!(!format!("{held:?}").contains("hunter2"));
    }
}
