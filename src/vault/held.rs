//! What Vault has given, for whoever uses it: values of paths, and how Vault stands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Secret, VaultPath};

/// The fields of one secret.
pub type Fields = BTreeMap<String, Secret>;

/// What Vault has given. Clones share it.
#[derive(Clone, Default)]
pub struct Held(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Every path that a setting names.
    paths: BTreeMap<String, Known>,
    standing: Standing,
}

/// What is known of a path.
enum Known {
    Unasked,
    /// Nothing yet, and why.
    Nothing(String),
    Fields(Fields),
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
    /// From now on the secret at this path is read.
    pub fn want(&self, path: &VaultPath) {
        self.state().paths.entry(path.path.clone()).or_insert(Known::Unasked);
    }

    /// Every path that is wanted.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.state().paths.keys().cloned().collect()
    }

    /// The field as it is now.
    ///
    /// # Errors
    /// Why it is not held.
    pub fn get(&self, path: &VaultPath) -> Result<Secret, String> {
        match self.state().paths.get(&path.path) {
            None | Some(Known::Unasked) => Err("Vault has not been asked yet".to_owned()),
            Some(Known::Nothing(reason)) => Err(reason.clone()),
            Some(Known::Fields(fields)) => fields
                .get(&path.field)
                .cloned()
                .ok_or_else(|| format!("the secret in Vault has no field {} that is a text", path.field)),
        }
    }

    /// What Vault has at a path; whether that is news.
    pub fn put(&self, path: &str, fields: Fields) -> bool {
        let mut state = self.state();
        let known = state.paths.entry(path.to_owned()).or_insert(Known::Unasked);
        let news = !matches!(known, Known::Fields(before) if *before == fields);
        *known = Known::Fields(fields);
        news
    }

    /// Nothing was had. What is held stays.
    pub fn miss(&self, path: &str, reason: &str) {
        let mut state = self.state();
        let known = state.paths.entry(path.to_owned()).or_insert(Known::Unasked);
        if !matches!(known, Known::Fields(_)) {
            *known = Known::Nothing(reason.to_owned());
        }
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

    #[test]
    fn what_is_held_stays_when_vault_gives_nothing() {
        let held = Held::default();
        let path: VaultPath = "worker/kafka#password".parse().expect("a path");
        held.want(&path);
        assert!(held.get(&path).expect_err("unasked").contains("not been asked"));
        held.miss("worker/kafka", "sealed");
        assert_eq!(held.get(&path), Err("sealed".to_owned()));
        let fields = || Fields::from([("password".to_owned(), Secret::new("hunter2"))]);
        assert!(held.put("worker/kafka", fields()));
        assert!(!held.put("worker/kafka", fields()), "no news");
        held.miss("worker/kafka", "sealed");
        assert_eq!(held.get(&path), Ok(Secret::new("hunter2")));
        let other: VaultPath = "worker/kafka#user".parse().expect("a path");
        assert!(held.get(&other).expect_err("no field").contains("no field user"));
        assert!(!format!("{held:?}").contains("hunter2"));
    }
}
