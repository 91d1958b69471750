//! Which provider a ticket asks for: the one place that knows the parameter names (`contracts/executors.md`).

use ticket_schemas::{TaskType, Ticket};

/// Longest provider name looked at; a longer one is nobody's.
const MAX_NAME: usize = 64;

/// The provider that the ticket names, in lower case; `None`: the default of its type.
///
/// Both spellings of the seed and of the code are read (INC-60).
#[must_use]
pub fn requested_provider(ticket: &Ticket) -> Option<String> {
    let keys: &[&str] = match ticket.task_type {
        TaskType::Execute => &["runtime"],
        TaskType::Test => &["provider", "ci_provider", "test_provider"],
        TaskType::Deploy => &["provider"],
        TaskType::Validate => &["validation_type"],
        TaskType::Query => &["query_type"],
        TaskType::Transform => &["transform_type"],
        TaskType::Compensate => &["action"],
        _ => &[],
    };
    if ticket.task_type == TaskType::Execute
        && ["template_id", "template"].iter().any(|key| text(ticket, key).is_some())
    {
        return Some("code_forge".to_owned());
    }
    keys.iter().find_map(|key| text(ticket, key))
}

fn text(ticket: &Ticket, key: &str) -> Option<String> {
    let name = ticket.parameters.get(key)?.as_str()?.trim();
    if name.is_empty() || name == "None" {
        return None;
    }
    Some(name.chars().take(MAX_NAME).collect::<String>().to_ascii_lowercase())
}
