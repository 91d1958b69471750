//! What a function is told.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::executor::Job;
use crate::external::Key;

/// The payload of an invocation: the contract's fields, and which ticket asks.
#[derive(Debug, Serialize)]
pub(super) struct Payload<'a> {
    /// All words of the command in one text, each quoted where a shell would split or change it.
    command: String,
    /// The words after the program.
    args: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env_vars: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<&'a str>,
    /// What the ticket asks for; absent when it asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<Seconds>,
    ticket: Asker<'a>,
}

/// Which attempt of which ticket invokes: what a function recognises a repetition by.
#[derive(Debug, Serialize)]
struct Asker<'a> {
    ticket_id: &'a str,
    /// The run of its workflow: another one when the ticket is driven again.
    run_id: &'a str,
    attempt: u32,
    /// One for each attempt: the same when the attempt is made again because its worker was lost.
    idempotency_key: String,
}

/// Seconds, as a whole number where they are one.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum Seconds {
    Whole(u64),
    Broken(f64),
}

/// What a ticket says of its command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) words: &'a [String],
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) working_dir: Option<&'a str>,
    pub(super) timeout_seconds: Option<f64>,
}

impl<'a> Payload<'a> {
    pub(super) fn of(asked: Asked<'a>, job: &'a Job) -> Self {
        let Asked { words, environment, working_dir, timeout_seconds } = asked;
        Self {
            command: words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            args: words.get(1..).unwrap_or_default(),
            env_vars: environment,
            working_dir,
            timeout_seconds: timeout_seconds.map(Seconds::of),
            ticket: Asker {
                ticket_id: job.ticket.ticket_id.as_str(),
                run_id: &job.run_id,
                attempt: job.attempt,
                idempotency_key: Key::of(job).to_string(),
            },
        }
    }
}

impl Seconds {
    fn of(seconds: f64) -> Self {
        // The largest whole number that a JSON reader gets back as it was.
        const LARGEST: f64 = 9_007_199_254_740_991.0;
        if seconds.fract() == 0.0 && (0.0..=LARGEST).contains(&seconds) {
            Self::Whole(seconds as u64)
        } else {
            Self::Broken(seconds)
        }
    }
}

/// A word as a shell reads it again: the functions that take `command` for a line of one get the words that the ticket has, and
/// nothing of a word becomes another command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use ticket_schemas::{decode_json_ticket, shell_words};

    use super::*;

    fn job() -> Job {
        let ticket = include_bytes!("../../../../schemas/tests/samples/tickets/execute-lambda.json");
        Job { attempt: 2, ..Job::first(decode_json_ticket(ticket).expect("a ticket")) }
    }

    fn payload(words: &[&str], timeout_seconds: Option<f64>) -> Value {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let asked = Asked { words: &words, environment: &BTreeMap::new(), working_dir: None, timeout_seconds };
        serde_json::to_value(Payload::of(asked, &job())).expect("JSON")
    }

    #[test]
    fn the_contracts_fields_are_the_contracts_payload_and_who_asks_is_beside_them() {
        let expected: Value =
            serde_json::from_str(include_str!("../../../../tests/samples/http/lambda/payload.json")).expect("JSON");
        let mut payload = payload(&["echo", "hello", "world"], Some(60.0));
        let asker = payload.as_object_mut().expect("an object").remove("ticket").expect("who asks");
        assert_eq!(payload, expected, "absent fields are left out, not null");
        let job = job();
        assert_eq!(
            asker,
            json!({
                "ticket_id": "40fd4da9-da47-5d5b-b3ff-70dee1bf8372", "run_id": job.run_id, "attempt": 2,
                "idempotency_key": Key::of(&job).as_str(),
            })
        );
    }

    #[test]
    fn a_repetition_has_the_same_key_and_another_attempt_another() {
        let key = |job: &Job| {
            let asked = Asked { words: &[], environment: &BTreeMap::new(), working_dir: None, timeout_seconds: None };
            serde_json::to_value(Payload::of(asked, job)).expect("JSON")["ticket"]["idempotency_key"].clone()
        };
        let first = job();
        assert_eq!(key(&first), key(&Job { lost_workers: 3, ..first.clone() }));
        assert_ne!(key(&first), key(&Job { attempt: 3, ..first }));
    }

    #[test]
    fn a_line_has_the_words_that_the_ticket_has_whatever_is_in_them() {
        let words = ["printf", "a b", "", "it's", "$(reboot); `x` | y > z", "é\n\\", "--k=v,1:2@3"];
        let command = payload(&words, None)["command"].as_str().expect("text").to_owned();
        assert_eq!(shell_words(&command).expect("words"), words, "{command}");
        assert_eq!(payload(&words, None)["args"], json!(words[1..]));
    }

    #[test]
    fn a_time_limit_is_a_whole_number_where_it_is_one() {
        assert_eq!(payload(&["x"], Some(60.0))["timeout_seconds"].to_string(), "60");
        assert_eq!(payload(&["x"], Some(0.5))["timeout_seconds"].to_string(), "0.5");
        assert_eq!(payload(&[], None)["command"], "");
    }
}
