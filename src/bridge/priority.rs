//! Which ticket goes first when slots are short: its priority, and whose it is.

use sha2::{Digest as _, Sha256};
use temporalio_common::protos::temporal::api::common::v1::Priority as TaskPriority;
use ticket_schemas::{Priority, Ticket};

/// Whose share of the slots a ticket takes: `TICKET_FAIRNESS`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fairness {
    /// Nobody's: within a priority the oldest task goes first.
    None,
    /// Its plan's.
    #[default]
    Plan,
    /// Its intent's.
    Intent,
}

/// Longest fairness key that the server takes, in bytes.
const MAX_KEY_BYTES: usize = 64;

/// The priority of a ticket's workflow and activities. The server's scale is 1 (first) to 5, with 3 for tasks without one.
pub(super) fn of(ticket: &Ticket, fairness: Fairness) -> TaskPriority {
    let priority_key = match ticket.priority {
        Priority::Critical => 1,
        Priority::High => 2,
        Priority::Normal => 3,
        Priority::Low => 4,
    };
    let owner = match fairness {
        Fairness::None => "",
        Fairness::Plan => ticket.plan_id.as_str(),
        Fairness::Intent => ticket.intent_id.as_str(),
    };
    TaskPriority { priority_key, fairness_key: key(owner), ..TaskPriority::default() }
}

fn key(owner: &str) -> String {
    if owner.len() <= MAX_KEY_BYTES {
        return owner.to_owned();
    }
    Sha256::digest(owner).iter().take(MAX_KEY_BYTES / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use ticket_schemas::decode_json_ticket;

    use super::*;

    fn ticket(priority: &str, plan: &str) -> Ticket {
        let text = format!(
            r#"{{"ticket_id":"t","plan_id":"{plan}","intent_id":"i","task_id":"t","task_type":"EXECUTE","status":"PENDING",
                "priority":"{priority}","dependencies":[]}}"#
        );
        decode_json_ticket(text.as_bytes()).expect("a ticket")
    }

    #[test]
    fn a_more_urgent_ticket_has_a_lower_key() {
        let keys =
            ["CRITICAL", "HIGH", "NORMAL", "LOW"].map(|word| of(&ticket(word, "p"), Fairness::None).priority_key);
        assert_eq!(keys, [1, 2, 3, 4]);
    }

    #[test]
    fn the_fairness_key_is_the_owners_id_or_its_digest() {
        let of = |plan: &str, fairness| of(&ticket("LOW", plan), fairness).fairness_key;
        assert_eq!(of("p", Fairness::None), "");
        assert_eq!(of("p", Fairness::Plan), "p");
        assert_eq!(of("p", Fairness::Intent), "i");
        let (long, other) = ("x".repeat(65), "x".repeat(66));
        assert_eq!(of(&long, Fairness::Plan).len(), MAX_KEY_BYTES);
        assert_ne!(of(&long, Fairness::Plan), of(&other, Fairness::Plan));
    }
}
