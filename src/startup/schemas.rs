//! What the Schema Registry says: whether it answers, whether tickets of its newest schema can be read, whether it takes
//! the schema of results.

use std::time::SystemTime;

use ticket_schemas::{RESULT_SCHEMA_JSON, Readable, WriterSchema};

use super::clock::Sight;
use super::finding::{Check, Finding};
use crate::config::{KafkaConfig, ResultEncoding};
use crate::registry::{RegistryClient, RegistryError, value_subject};

/// Asks the registry. `None`: none is configured.
pub(super) async fn look(config: &KafkaConfig, registry: Option<&RegistryClient>) -> (Vec<Finding>, Option<Sight>) {
    let Some((registry, url)) = registry.zip(config.schema_registry_url.as_deref()) else {
        let none = "no schema registry: JSON only, framed Avro goes to the DLQ";
        return (vec![Finding::ok(Check::SchemaRegistry, none)], None);
    };
    let asked = SystemTime::now();
    let (reachable, sight) = match registry.greet().await {
        Ok(date) => {
            let ours = (asked, SystemTime::now());
            let sight = date.map(|theirs| Sight::Tells { who: "the schema registry", theirs, ours });
            (Finding::ok(Check::SchemaRegistry, format!("schema registry answers at {url}")), sight)
        }
        Err(error) => {
            let advice = "check KAFKA_SCHEMA_REGISTRY_URL and the network; the platform's Apicurio needs the path /apis/ccompat/v6";
            let what = format!("schema registry does not answer at {url} ({error})");
            (Finding::failed(Check::SchemaRegistry, what, advice), None)
        }
    };
    let tickets = value_subject(&config.tickets_topic);
    let mut findings = vec![reachable, ticket_schema(&tickets, registry.latest(&tickets).await)];
    if config.result_encoding == ResultEncoding::Json {
        findings.push(Finding::ok(Check::ResultSchema, "results are JSON (RESULT_ENCODING=json)"));
    } else {
        let results = value_subject(&config.results_topic);
        findings.push(result_schema(&results, registry.accepts(&results, RESULT_SCHEMA_JSON).await));
    }
    (findings, sight)
}

/// Whether tickets written with the subject's newest schema can be read.
fn ticket_schema(subject: &str, latest: Result<Option<String>, RegistryError>) -> Finding {
    let check = Check::TicketSchema;
    let fix =
        "compare it with schemas/execution-ticket/execution-ticket.avsc; producers must write what this version reads";
    let text = match latest {
        Ok(Some(text)) => text,
        Ok(None) => {
            return Finding::ok(check, format!("subject {subject} has no schema yet: producers register theirs"));
        }
        Err(error) => return not_asked(check, subject, &error),
    };
    let theirs = match WriterSchema::parse(&text) {
        Ok(theirs) => theirs,
        Err(error) => {
            return Finding::failed(
                check,
                format!("the newest schema of subject {subject} cannot be used: {error}"),
                fix,
            );
        }
    };
    match WriterSchema::ticket().reads(&theirs) {
        Readable::Always => {
            Finding::ok(check, format!("tickets of the newest schema of subject {subject} can be read"))
        }
        Readable::Sometimes => Finding::failed(
            check,
            format!(
                "some tickets of the newest schema of subject {subject} cannot be read: it has values that this version does not know"
            ),
            fix,
        ),
        Readable::Never(why) => Finding::failed(
            check,
            format!("tickets of the newest schema of subject {subject} cannot be read: {why}"),
            fix,
        ),
    }
}

fn result_schema(subject: &str, accepted: Result<bool, RegistryError>) -> Finding {
    let check = Check::ResultSchema;
    match accepted {
        Ok(true) => Finding::ok(check, format!("subject {subject} takes the schema of results")),
        Ok(false) => Finding::failed(
            check,
            format!("subject {subject} has a newer schema that the one of results is not compatible with"),
            "delete the foreign version from the subject, lower its compatibility level, or set RESULT_ENCODING=json",
        ),
        Err(error) => not_asked(check, subject, &error),
    }
}

fn not_asked(check: Check, subject: &str, error: &RegistryError) -> Finding {
    Finding::unknown(check, format!("subject {subject} could not be checked: {error}"), "it is asked for again")
}

#[cfg(test)]
mod tests {
    use ticket_schemas::TICKET_SCHEMA_JSON;

    use super::super::finding::State;
    use super::*;

    fn of(latest: &str) -> State {
        ticket_schema("s", Ok(Some(latest.to_owned()))).state
    }

    #[test]
    fn the_newest_ticket_schema_must_be_readable_by_this_version() {
        assert_eq!(of(TICKET_SCHEMA_JSON), State::Ok);
        let edited = |edit: &dyn Fn(&mut serde_json::Value)| {
            let mut schema: serde_json::Value = serde_json::from_str(TICKET_SCHEMA_JSON).expect("JSON");
            edit(&mut schema);
            schema.to_string()
        };
        let field = |schema: &serde_json::Value, name: &str| {
            let fields = schema["fields"].as_array().expect("fields");
            fields.iter().position(|field| field["name"] == name).expect(name)
        };
        // A field more, and a field less that has a default: as it should be.
        let more = edited(&|schema| {
            let fields = schema["fields"].as_array_mut().expect("fields");
            fields.push(serde_json::json!({ "name": "new", "type": "string" }));
        });
        assert_eq!(of(&more), State::Ok);
        let less = edited(&|schema| {
            let at = field(schema, "retry_count");
            schema["fields"].as_array_mut().expect("fields").remove(at);
        });
        assert_eq!(of(&less), State::Ok);
        // A task type that this version does not know.
        let newer = edited(&|schema| {
            let at = field(schema, "task_type");
            schema["fields"][at]["type"]["symbols"].as_array_mut().expect("symbols").push("DANCE".into());
        });
        assert_eq!(of(&newer), State::Failed);
        // Another type of the id, and a field that is needed and gone.
        let typed = edited(&|schema| {
            let at = field(schema, "created_at");
            schema["fields"][at]["type"] = "string".into();
        });
        assert_eq!(of(&typed), State::Failed);
        let gone = edited(&|schema| {
            let at = field(schema, "plan_id");
            schema["fields"].as_array_mut().expect("fields").remove(at);
        });
        assert_eq!(of(&gone), State::Failed);
        assert_eq!(of("\"string\""), State::Failed);
    }

    #[test]
    fn a_registry_that_gives_no_answer_is_neither_a_pass_nor_a_failure() {
        let away = || RegistryError::Unavailable("503".to_owned());
        assert_eq!(ticket_schema("s", Err(away())).state, State::Unknown);
        assert_eq!(ticket_schema("s", Ok(None)).state, State::Ok);
        assert_eq!(result_schema("s", Err(away())).state, State::Unknown);
        assert_eq!(result_schema("s", Ok(false)).state, State::Failed);
        assert_eq!(result_schema("s", Ok(true)).state, State::Ok);
    }
}
