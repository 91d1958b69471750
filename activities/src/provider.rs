//! Which provider a ticket asks for: the one place that knows the parameter names (`contracts/executors.md`).

use serde_json::Value;
use ticket_schemas::{ParameterView, TaskType, Ticket};

/// The runtime of EXECUTE that makes code of a template.
pub(crate) const GENERATED: &str = "code_forge";
/// Longest provider name looked at; a longer one is nobody's.
const MAX_NAME: usize = 64;

/// A ticket names its provider by something that is no name. It is not run by another one (design: isolation is never
/// lowered silently).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("parameter {0:?} must be the name of a provider, as text")]
pub struct NoProviderName(&'static str);

/// The provider that the ticket names, in lower case; `None`: the default of its type.
///
/// Both spellings of the seed and of the code are read (INC-60). Null, blank, `"None"` and `"null"` name none.
///
/// # Errors
/// When there is something in its place that is no text.
pub fn requested_provider(ticket: &Ticket) -> Result<Option<String>, NoProviderName> {
    let keys: &[&'static str] = match ticket.task_type {
        TaskType::Execute => &["runtime"],
        TaskType::Test => &["provider", "ci_provider", "test_provider"],
        TaskType::Deploy => &["provider"],
        TaskType::Validate => &["validation_type"],
        TaskType::Query => &["query_type"],
        TaskType::Transform => &["transform_type"],
        TaskType::Compensate => &["action"],
        _ => &[],
    };
    // Whatever stands there, it is a wish for generated code, and nothing else will do.
    if ticket.task_type == TaskType::Execute
        && ["template_id", "template"].iter().any(|key| present(ticket, key).is_some())
    {
        return Ok(Some(GENERATED.to_owned()));
    }
    for key in keys {
        match present(ticket, key) {
            None => {}
            Some(Value::String(name)) => {
                return Ok(Some(name.trim().chars().take(MAX_NAME).collect::<String>().to_ascii_lowercase()));
            }
            Some(_) => return Err(NoProviderName(key)),
        }
    }
    Ok(None)
}

fn present<'a>(ticket: &'a Ticket, key: &str) -> Option<&'a Value> {
    ParameterView::new(&ticket.parameters)
        .get(key)
        .filter(|value| value.as_str().is_none_or(|text| !text.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ticket_schemas::decode_json_ticket;

    use super::*;

    fn asked(parameters: Value) -> Result<Option<String>, NoProviderName> {
        let ticket = json!({
            "ticket_id": "t", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        requested_provider(&decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket"))
    }

    #[test]
    fn inc_72_what_is_no_name_is_never_taken_for_the_default() {
        for value in [json!(["k8s"]), json!({ "name": "k8s" }), json!(5), json!(true), json!(["k8s", "x"])] {
            assert_eq!(asked(json!({ "runtime": value })), Err(NoProviderName("runtime")), "{value}");
        }
        for value in [json!({ "id": 1 }), json!(7), json!("a"), json!(false)] {
            for key in ["template", "template_id"] {
                assert_eq!(asked(json!({ key: value })), Ok(Some("code_forge".to_owned())), "{key} {value}");
            }
        }
    }

    #[test]
    fn a_name_is_read_in_any_case_and_what_means_nothing_names_none() {
        assert_eq!(asked(json!({ "runtime": " K8S " })), Ok(Some("k8s".to_owned())));
        for value in [json!(null), json!(""), json!("  "), json!("None"), json!("null")] {
            assert_eq!(asked(json!({ "runtime": value, "template_id": value })), Ok(None), "{value}");
        }
        assert_eq!(asked(json!({})), Ok(None));
    }
}
