//! What operators order of a ticket: one verb, who orders it, and why. What of it makes sense in which state is the
//! machine's business.

use serde::{Deserialize, Serialize};

use crate::outcome::bounded;

/// The name of the update that carries an [`Order`] to a ticket.
pub const ORDER_UPDATE: &str = "order";

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verb {
    /// Stop the work, and report the ticket as failed.
    Cancel {
        /// The ticket that needs the place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preempted_by: Option<String>,
        /// How long to wait for the executor to confirm that the work has stopped, in milliseconds; `None`: as long as it
        /// takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_ms: Option<u64>,
    },
    /// Begin no further attempt. One that runs goes on.
    Pause,
    /// Undo a pause.
    Resume,
    /// End the wait for a retry.
    RetryNow,
    /// Move `sla.deadline` to a later time.
    ExtendDeadline {
        /// The new deadline, epoch milliseconds.
        deadline_ms: i64,
    },
    /// Wait no longer for a ticket that this one depends on.
    SkipDependency {
        /// The ticket that is not waited for any more.
        ticket_id: String,
    },
    /// Try a compensation that failed once more, with a ticket of its own.
    ResumeCompensation,
    /// Leave what the failed ticket did as it is, and close the ticket.
    SkipCompensation,
}

impl Verb {
    /// Longest grace, in milliseconds.
    pub const MOST_GRACE_MS: u64 = 3_600_000;

    /// The verb as people type it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::RetryNow => "retry",
            Self::ExtendDeadline { .. } => "extend-deadline",
            Self::SkipDependency { .. } => "skip-dependency",
            Self::ResumeCompensation => "compensation resume",
            Self::SkipCompensation => "compensation skip",
        }
    }
}

/// One order to one ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What is ordered.
    #[serde(flatten)]
    pub verb: Verb,
    /// Who orders it.
    pub by: String,
    /// Why.
    pub why: String,
}

impl Order {
    /// Longest name of who orders, and longest ticket id, in bytes.
    pub const MOST_NAME: usize = 200;
    /// Longest reason, in bytes.
    pub const MOST_WHY: usize = 512;

    /// The order as it is kept: no control characters, every text bounded.
    #[must_use]
    pub fn cleaned(self) -> Self {
        let name = |text: String| cleaned(&text, Self::MOST_NAME);
        let verb = match self.verb {
            Verb::Cancel { preempted_by, grace_ms } => {
                let preempted_by = preempted_by.map(name).filter(|id| !id.is_empty());
                Verb::Cancel { preempted_by, grace_ms }
            }
            Verb::SkipDependency { ticket_id } => Verb::SkipDependency { ticket_id: name(ticket_id) },
            other => other,
        };
        Self { verb, by: name(self.by), why: cleaned(&self.why, Self::MOST_WHY) }
    }

    /// What is missing, whatever the ticket does.
    pub(crate) fn fault(&self) -> Option<String> {
        for (what, text) in [("who orders it (by)", &self.by), ("a reason (why)", &self.why)] {
            if cleaned(text, Self::MOST_WHY).is_empty() {
                return Some(format!("an order needs {what}"));
            }
        }
        match self.verb {
            Verb::Cancel { grace_ms: Some(grace_ms), .. } if grace_ms > Verb::MOST_GRACE_MS => {
                Some(format!("a grace of {grace_ms} ms is more than {} ms", Verb::MOST_GRACE_MS))
            }
            _ => None,
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAnswer {
    /// Whether the ticket is now as was ordered, or on its way there. False when the order came too late.
    pub done: bool,
    /// What happens, for people.
    pub note: String,
}

/// An order that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// The order.
    #[serde(flatten)]
    pub order: Order,
    /// When it was carried out, epoch milliseconds.
    pub at_ms: i64,
}

fn cleaned(text: &str, most: usize) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    bounded(spaced.trim().to_owned(), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_flat_json_and_missing_options_are_none() {
        let text = r#"{"verb":"cancel","by":"ana","why":"not needed"}"#;
        let order: Order = serde_json::from_str(text).expect("an order");
        assert_eq!(order.verb, Verb::Cancel { preempted_by: None, grace_ms: None });
        assert_eq!(serde_json::to_string(&order).expect("JSON"), text);
        for (text, verb) in [
            (r#"{"verb":"retry_now","by":"a","why":"b"}"#, Verb::RetryNow),
            (
                r#"{"verb":"skip_dependency","ticket_id":"x","by":"a","why":"b"}"#,
                Verb::SkipDependency { ticket_id: "x".to_owned() },
            ),
            (r#"{"verb":"resume_compensation","by":"a","why":"b"}"#, Verb::ResumeCompensation),
            (r#"{"verb":"skip_compensation","by":"a","why":"b"}"#, Verb::SkipCompensation),
        ] {
            assert_eq!(serde_json::from_str::<Order>(text).expect("an order").verb, verb);
        }
        let record = OrderRecord { order, at_ms: 7 };
        let text = serde_json::to_string(&record).expect("JSON");
        assert_eq!(serde_json::from_str::<OrderRecord>(&text).expect("a record"), record);
        assert!(serde_json::from_str::<Order>(r#"{"verb":"cancel","by":"ana"}"#).is_err(), "the reason is required");
    }

    #[test]
    fn texts_are_bounded_and_hold_no_control_characters() {
        let long = "x".repeat(5_000);
        let verb = Verb::Cancel { preempted_by: Some("\u{1b}[31m".to_owned()), grace_ms: None };
        let order = Order { verb, by: format!("ana\n{long}"), why: format!("\t{long}") }.cleaned();
        assert!(order.by.len() <= Order::MOST_NAME && order.why.len() <= Order::MOST_WHY);
        assert!(order.by.starts_with("ana x") && order.why.starts_with('x'));
        assert_eq!(order.verb, Verb::Cancel { preempted_by: Some("[31m".to_owned()), grace_ms: None });
    }

    #[test]
    fn an_order_names_who_and_why() {
        let order = |by: &str, why: &str| Order { verb: Verb::Pause, by: by.to_owned(), why: why.to_owned() };
        assert_eq!(order("ana", "x").fault(), None);
        assert!(order(" \n", "x").fault().is_some_and(|fault| fault.contains("who")));
        assert!(order("ana", "\u{7}").fault().is_some_and(|fault| fault.contains("reason")));
    }
}
