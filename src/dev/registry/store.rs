//! What the registry holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One schema.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u32,
    /// As it was first registered.
    pub(super) text: String,
    pub(super) canonical: String,
}

/// All schemas, by id and by subject.
#[derive(Debug, Default)]
pub(super) struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In the order of their ids, the first being 1.
    schemas: Vec<Arc<Entry>>,
    /// A subject's versions in their order, the first being 1. Never empty.
    subjects: BTreeMap<String, Vec<Arc<Entry>>>,
}

impl Store {
    pub(super) fn subjects(&self) -> Vec<String> {
        self.inner().subjects.keys().cloned().collect()
    }

    /// The id of the schema, which is new only when no schema has this canonical form.
    pub(super) fn register(&self, subject: &str, text: String, canonical: String) -> u32 {
        let mut inner = self.inner();
        let known = inner.schemas.iter().find(|entry| entry.canonical == canonical).cloned();
        let entry = known.unwrap_or_else(|| {
            let id = inner.schemas.last().map_or(1, |last| last.id + 1);
            let entry = Arc::new(Entry { id, text, canonical });
            inner.schemas.push(Arc::clone(&entry));
            entry
        });
        let id = entry.id;
        let versions = inner.subjects.entry(subject.to_owned()).or_default();
        if versions.iter().all(|version| version.id != id) {
            versions.push(entry);
        }
        id
    }

    /// A subject's versions, the first being version 1.
    pub(super) fn versions(&self, subject: &str) -> Option<Vec<Arc<Entry>>> {
        self.inner().subjects.get(subject).cloned()
    }

    pub(super) fn schema(&self, id: u32) -> Option<Arc<Entry>> {
        self.inner().schemas.iter().find(|entry| entry.id == id).cloned()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
