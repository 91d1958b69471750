//! Writer's schema to reader's: a producer may be older or newer than this worker (Avro's schema resolution).

#![expect(clippy::unwrap_used, reason = "a test")]

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::{Value, json};
use ticket_schemas::{
    DecodeError, Priority, TICKET_SCHEMA_JSON, TaskType, Ticket, TicketStatus, WriterSchema, decode_avro_ticket,
};

/// Deadline of the ticket written.
const DEADLINE: i64 = 1_773_657_000_000;

/// The contract's schema, changed.
fn writer(change: impl FnOnce(&mut Vec<Value>)) -> Value {
    let mut schema: Value = serde_json::from_str(TICKET_SCHEMA_JSON).unwrap();
    change(schema["fields"].as_array_mut().unwrap());
    schema
}

fn field<'a>(fields: &'a mut [Value], name: &str) -> &'a mut Value {
    fields.iter_mut().find(|field| field["name"] == name).unwrap()
}

fn value(name: &str) -> Option<Avro> {
    let text = |text: &str| Some(Avro::String(text.to_owned()));
    let word = |text: &str| Some(Avro::Enum(0, text.to_owned()));
    match name {
        "ticket_id" => text("t-1"),
        "plan_id" => text("p-1"),
        "intent_id" => text("i-1"),
        "decision_id" => text("d-1"),
        "task_id" => text("task"),
        "task_type" => word("EXECUTE"),
        "description" => text("what it does"),
        "status" => word("PENDING"),
        "priority" => word("HIGH"),
        "risk_band" => word("low"),
        "security_level" => word("INTERNAL"),
        "dependencies" | "required_capabilities" => Some(Avro::Array(Vec::new())),
        "parameters" => Some(Avro::Map([("command".to_owned(), Avro::String("true".to_owned()))].into())),
        "metadata" => Some(Avro::Map([].into())),
        "sla" => Some(Avro::Record(vec![
            ("deadline".to_owned(), Avro::Long(DEADLINE)),
            ("timeout_ms".to_owned(), Avro::Long(60_000)),
            ("max_retries".to_owned(), Avro::Int(2)),
        ])),
        "qos" => Some(Avro::Record(vec![
            ("delivery_mode".to_owned(), Avro::Enum(0, "AT_LEAST_ONCE".to_owned())),
            ("consistency".to_owned(), Avro::Enum(0, "EVENTUAL".to_owned())),
            ("durability".to_owned(), Avro::Enum(0, "PERSISTENT".to_owned())),
        ])),
        "created_at" => Some(Avro::Long(1_773_653_400_000)),
        "retry_count" => Some(Avro::Int(0)),
        "schema_version" => Some(Avro::Int(1)),
        _ => None,
    }
}

/// The ticket, written with `schema` and read again. `special` overrides values.
fn decode(schema: &Value, special: &[(&str, Avro)]) -> Result<Ticket, DecodeError> {
    let text = schema.to_string();
    let parsed = Schema::parse_str(&text).unwrap();
    let fields = schema["fields"].as_array().unwrap().iter().map(|field| {
        let name = field["name"].as_str().unwrap();
        let given = special.iter().find(|(special, _)| *special == name).map(|(_, value)| value.clone());
        (name.to_owned(), given.or_else(|| value(name)).unwrap_or(Avro::Null))
    });
    let record = Avro::Record(fields.collect()).resolve(&parsed).unwrap();
    let mut body = Vec::new();
    GenericDatumWriter::builder(&parsed).build().unwrap().write_value(&mut body, record).unwrap();
    decode_avro_ticket(&body, &WriterSchema::parse(&text).unwrap())
}

fn plain() -> Ticket {
    decode(&writer(|_| {}), &[]).unwrap()
}

#[test]
fn the_contracts_own_schema_reads_as_written() {
    let ticket = plain();
    assert_eq!(
        (ticket.ticket_id.as_str(), ticket.task_type, ticket.priority),
        ("t-1", TaskType::Execute, Priority::High)
    );
    assert_eq!(ticket.sla.unwrap().deadline, Some(DEADLINE));
}

#[test]
fn a_field_that_only_the_writer_knows_is_ignored_wherever_it_stands() {
    for at in [0, 7, 29] {
        let schema = writer(|fields| {
            let shape = json!({"type": "record", "name": "Shape", "fields": [
                {"name": "tags", "type": {"type": "array", "items": "bytes"}},
                {"name": "weights", "type": {"type": "map", "values": "double"}},
                {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 4}},
            ]});
            fields.insert(at, json!({"name": "shape", "type": shape}));
        });
        let shape = Avro::Record(vec![
            ("tags".to_owned(), Avro::Array(vec![Avro::Bytes(vec![0, 255]), Avro::Bytes(Vec::new())])),
            ("weights".to_owned(), Avro::Map([("a".to_owned(), Avro::Double(0.5))].into())),
            ("id".to_owned(), Avro::Fixed(4, vec![1, 2, 3, 4])),
        ]);
        assert_eq!(decode(&schema, &[("shape", shape)]).unwrap(), plain(), "at {at}");
    }
}

#[test]
fn a_field_that_the_writer_lacks_gets_the_readers_default() {
    // Every field for which the contract's schema states a default.
    let names: Vec<String> = writer(|_| {})["fields"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|field| field.get("default").is_some())
        .map(|field| field["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.iter().any(|name| name == "status") && names.iter().any(|name| name == "dependencies"));
    for name in names {
        let schema = writer(|fields| fields.retain(|field| field["name"] != name.as_str()));
        let mut expected = plain();
        if name == "parameters" {
            expected.parameters.clear();
        }
        assert_eq!(decode(&schema, &[]).unwrap_or_else(|error| panic!("{name}: {error}")), expected, "{name}");
    }
}

#[test]
fn a_field_without_a_default_that_the_writer_lacks_is_named() {
    for name in ["ticket_id", "task_id", "task_type"] {
        let schema = writer(|fields| fields.retain(|field| field["name"] != name));
        let error = decode(&schema, &[]).unwrap_err();
        assert_eq!(error.code(), "missing_field");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn fields_are_found_by_name_in_any_order() {
    assert_eq!(decode(&writer(|fields| fields.reverse()), &[]).unwrap(), plain());
    let schema = writer(|fields| field(fields, "sla")["type"]["fields"].as_array_mut().unwrap().reverse());
    let sla = Avro::Record(vec![
        ("max_retries".to_owned(), Avro::Int(2)),
        ("timeout_ms".to_owned(), Avro::Long(60_000)),
        ("deadline".to_owned(), Avro::Long(DEADLINE)),
    ]);
    assert_eq!(decode(&schema, &[("sla", sla)]).unwrap(), plain());
}

#[test]
fn narrower_numbers_and_bytes_are_promoted() {
    let duration = |kind: &str| writer(|fields| field(fields, "estimated_duration_ms")["type"] = json!(["null", kind]));
    for (kind, value) in [
        ("int", Avro::Int(1500)),
        ("long", Avro::Long(1500)),
        ("float", Avro::Float(1500.0)),
        ("double", Avro::Double(1500.0)),
    ] {
        let ticket = decode(&duration(kind), &[("estimated_duration_ms", Avro::Union(1, Box::new(value)))]).unwrap();
        assert_eq!(ticket.estimated_duration_ms, Some(1500), "{kind}");
    }
    // A reader's int takes a long that fits; one that does not is named.
    let schema = writer(|fields| field(fields, "retry_count")["type"] = json!("long"));
    assert_eq!(decode(&schema, &[("retry_count", Avro::Long(3))]).unwrap().retry_count, 3);
    let error = decode(&schema, &[("retry_count", Avro::Long(1 << 40))]).unwrap_err();
    assert_eq!(error.code(), "malformed_field");
    assert!(error.to_string().contains("retry_count"), "{error}");
    let schema = writer(|fields| field(fields, "description")["type"] = json!("bytes"));
    let bytes = Avro::Bytes("what it does".as_bytes().to_vec());
    assert_eq!(decode(&schema, &[("description", bytes)]).unwrap(), plain());
    let schema = writer(|fields| field(fields, "plan_id")["type"] = json!(["null", "string"]));
    let text = Avro::Union(1, Box::new(Avro::String("p-1".to_owned())));
    assert_eq!(decode(&schema, &[("plan_id", text)]).unwrap(), plain());
}

#[test]
fn a_symbol_that_only_the_writer_knows_is_refused_with_its_field() {
    for (name, code) in [
        ("task_type", "unknown_task_type"),
        ("status", "malformed_field"),
        ("priority", "malformed_field"),
        ("risk_band", "malformed_field"),
        ("security_level", "malformed_field"),
    ] {
        let schema = writer(|fields| {
            field(fields, name)["type"]["symbols"].as_array_mut().unwrap().insert(0, json!("RENAMED"));
        });
        let error = decode(&schema, &[(name, Avro::Enum(0, "RENAMED".to_owned()))]).unwrap_err();
        assert_eq!(error.code(), code, "{name}");
        assert!(error.to_string().contains(name) && error.to_string().contains("RENAMED"), "{error}");
        assert_eq!(error.ticket_id_hint(), Some("t-1"));
        // The other symbols keep their meaning although their positions moved.
        assert_eq!(decode(&schema, &[]).unwrap(), plain(), "{name}");
    }
}

#[test]
fn a_symbol_is_read_by_its_name_not_by_its_position() {
    let schema = writer(|fields| {
        let symbols = field(fields, "status")["type"]["symbols"].as_array_mut().unwrap();
        symbols.reverse();
    });
    assert_eq!(decode(&schema, &[]).unwrap().status, TicketStatus::Pending);
}
