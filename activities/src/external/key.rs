//! The key of a piece of external work.

use std::fmt;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::executor::Job;

/// Characters kept of a ticket id: a UUID as a whole.
const MAX_SLUG: usize = 36;
/// Bytes of the digest in a key.
const DIGEST_BYTES: usize = 6;

/// Names the work of one attempt: the same on every worker that runs it, another for another attempt or run.
///
/// It is a DNS label (RFC 1123: at most 63 of `a-z`, `0-9` and `-`, with a letter in front), so that it is a name and a
/// label value everywhere, whatever the ticket id is made of. Ticket id, run id and attempt decide it together: a ticket
/// that is driven again must not be taken for work of its earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// The key of `job`'s attempt.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let ticket_id = job.ticket.ticket_id.as_str();
        let digest = Sha256::digest(format!("{ticket_id}\0{}\0{}", job.run_id, job.attempt));
        let mut key = String::from("t-");
        let slug: String = ticket_id
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .filter(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
            .take(MAX_SLUG)
            .collect();
        let slug = slug.trim_matches('-');
        if !slug.is_empty() {
            key.push_str(slug);
            key.push('-');
        }
        key.push_str(&job.attempt.to_string());
        key.push('-');
        for byte in &digest[..DIGEST_BYTES] {
            // Writing to a text does not fail.
            let _ = write!(key, "{byte:02x}");
        }
        Self(key)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    fn key(ticket_id: &str, run_id: &str, attempt: u32) -> String {
        let mut job = job(ticket_id);
        job.run_id = run_id.to_owned();
        job.attempt = attempt;
        Key::of(&job).0
    }

    #[test]
    fn a_key_is_a_dns_label_whatever_the_ticket_is_called() {
        let long = "x".repeat(200);
        for id in ["ac36f7e1-5276-5dd7-8937-0b54fce5af5b", "T", "--", "..", ":", &long, "UPPER_case.9-"] {
            for attempt in [1, u32::MAX] {
                let key = key(id, "run", attempt);
                assert!(key.len() <= 63, "{key}");
                assert!(key.starts_with("t-") && !key.ends_with('-'), "{key}");
                assert!(key.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')), "{key}");
            }
        }
        assert!(key("ac36f7e1-5276-5dd7-8937-0b54fce5af5b", "r", 1).contains("ac36f7e1-5276-5dd7-8937-0b54fce5af5b"));
    }

    #[test]
    fn a_key_is_the_same_everywhere_and_another_for_another_attempt_run_or_ticket() {
        assert_eq!(key("a", "r", 1), key("a", "r", 1));
        let keys = [key("a", "r", 1), key("a", "r", 2), key("a", "s", 1), key("A", "r", 1), key("a.", "r", 1)];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:?}");
    }
}
