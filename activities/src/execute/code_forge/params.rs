//! What a ticket asks Code Forge for, checked.

use std::time::Duration;

use serde::Deserialize;
use ticket_schemas::Ticket;
use ticket_workflows::Failed;

use super::api::GenerationRequest;
use crate::execute::command::{given, invalid, time_limit};
use crate::external::said;

/// Most bytes of each of the texts below.
const MAX_TEXT: usize = 2048;
/// The branch of tickets that name none (`contracts/executors.md`).
const DEFAULT_BRANCH: &str = "main";

/// Parameters that the worker itself looks at. Code Forge is given all parameters of the ticket.
#[derive(Debug, Deserialize)]
pub struct GenerationParams {
    template_id: Option<String>,
    template: Option<String>,
    target_repo: Option<String>,
    branch: Option<String>,
    timeout_seconds: Option<f64>,
}

impl GenerationParams {
    /// The request, and the time that the generation may take. `limit`: of a ticket that names none.
    pub(super) fn check(self, ticket: &Ticket, limit: Duration) -> Result<(GenerationRequest, Duration), Failed> {
        let template = text("template_id", self.template_id)?.or(text("template", self.template)?);
        let request = GenerationRequest {
            ticket_id: ticket.ticket_id.as_str().to_owned(),
            template_id: template
                .ok_or_else(|| invalid("parameter \"template_id\" is missing; name the template to make code of"))?,
            parameters: ticket.parameters.clone(),
            target_repo: text("target_repo", self.target_repo)?.unwrap_or_default(),
            branch: text("branch", self.branch)?.unwrap_or_else(|| DEFAULT_BRANCH.to_owned()),
        };
        Ok((request, time_limit(self.timeout_seconds, limit)?))
    }
}

/// A text without blanks around it; `None`: there is none.
fn text(name: &str, value: Option<String>) -> Result<Option<String>, Failed> {
    let Some(value) = given(value) else {
        return Ok(None);
    };
    if value.len() > MAX_TEXT || value.chars().any(char::is_control) {
        let shown = said(&value);
        return Err(invalid(format!(
            "parameter {name:?} is longer than {MAX_TEXT} bytes or holds control characters: {shown:?}"
        )));
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use ticket_schemas::{ParameterView, decode_json_ticket};
    use ticket_workflows::code;

    use super::*;

    fn asked(parameters: &Value) -> Result<(GenerationRequest, Duration), Failed> {
        let ticket = json!({
            "ticket_id": "t", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let params: GenerationParams =
            ParameterView::new(&ticket.parameters).deserialize().map_err(|error| invalid(error.to_string()))?;
        params.check(&ticket, Duration::from_secs(1800))
    }

    #[test]
    fn the_contracts_ticket_becomes_the_contracts_request() {
        let sample = include_bytes!("../../../../schemas/tests/samples/tickets/execute-code-forge.json");
        let ticket = decode_json_ticket(sample).expect("a ticket");
        let params: GenerationParams = ParameterView::new(&ticket.parameters).deserialize().expect("parameters");
        let (request, limit) = params.check(&ticket, Duration::from_secs(1800)).expect("a request");
        let expected = include_str!("../../../../tests/samples/http/code-forge/generate-request.json");
        let expected: Value = serde_json::from_str(expected).expect("JSON");
        assert_eq!(serde_json::to_value(&request).expect("JSON"), expected);
        assert_eq!(limit, Duration::from_secs(1800));
    }

    #[test]
    fn both_names_of_a_template_are_read_and_what_is_absent_has_the_contracts_value() {
        let (request, limit) =
            asked(&json!({ "template": " t ", "template_id": "None", "timeout_seconds": "90" })).expect("a request");
        assert_eq!(
            (request.template_id.as_str(), request.target_repo.as_str(), request.branch.as_str()),
            ("t", "", "main")
        );
        assert_eq!(limit, Duration::from_secs(90));
        let (request, _) = asked(&json!({ "template": "b", "template_id": "a" })).expect("a request");
        assert_eq!(request.template_id, "a");
        assert_eq!(request.parameters["template"], "b", "Code Forge gets all of them, as they arrived");
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        for (parameters, name) in [
            (json!({}), "template_id"),
            (json!({ "template_id": { "id": 1 } }), "template_id"),
            (json!({ "template_id": "a\nb" }), "template_id"),
            (json!({ "template": "x".repeat(MAX_TEXT + 1) }), "template"),
            (json!({ "template_id": "a", "branch": ["main"] }), "branch"),
            (json!({ "template_id": "a", "target_repo": "https://git\u{0}" }), "target_repo"),
            (json!({ "template_id": "a", "timeout_seconds": 0 }), "timeout_seconds"),
        ] {
            let failed = asked(&parameters).expect_err("refused");
            assert_eq!(failed.code, code::INVALID_PARAMETERS, "{parameters}");
            assert!(failed.message.contains(name) && failed.message.len() < 1000, "{parameters}: {}", failed.message);
        }
    }
}
