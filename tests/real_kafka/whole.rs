//! Tickets through real brokers and a real registry, written and read by a client that is not the product.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use serde_json::{Value, json};
use ticket_schemas::TICKET_SCHEMA_JSON;

use crate::lane::world_with_registry;
use crate::world::{eventually, get};

/// Of Confluent's frame: a zero and the schema's id, big-endian.
const FRAME: usize = 5;

/// The ticket's schema as a later orchestrator may have it: one field more.
fn later_schema() -> String {
    let mut schema: Value = serde_json::from_str(TICKET_SCHEMA_JSON).expect("schema");
    let fields = schema["fields"].as_array_mut().expect("fields");
    fields.insert(0, json!({ "name": "orchestrator_build", "type": "string" }));
    schema.to_string()
}

/// The value without a schema, which then finds each one's place in the unions and records.
fn avro(value: Value) -> Avro {
    match value {
        Value::Null => Avro::Null,
        Value::Bool(flag) => Avro::Boolean(flag),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| Avro::Double(number.as_f64().expect("number")), Avro::Long)
        }
        Value::String(text) => Avro::String(text),
        Value::Array(items) => Avro::Array(items.into_iter().map(avro).collect()),
        Value::Object(fields) => Avro::Map(fields.into_iter().map(|(key, value)| (key, avro(value))).collect()),
    }
}

fn framed(id: u32, schema: &Schema, mut ticket: Value) -> Vec<u8> {
    ticket["orchestrator_build"] = json!("2026.11");
    ticket["qos"] = json!({ "delivery_mode": "AT_LEAST_ONCE", "consistency": "STRONG", "durability": "PERSISTENT" });
    // A map of texts; the planner writes JSON into them.
    for parameter in ticket["parameters"].as_object_mut().expect("parameters").values_mut() {
        if !parameter.is_string() {
            *parameter = parameter.to_string().into();
        }
    }
    // A datum has every field of its writer's schema.
    let Schema::Record(record) = schema else { panic!("not a record") };
    for field in &record.fields {
        if ticket.get(&field.name).is_none() {
            ticket[&field.name] = field.default.clone().unwrap_or(Value::Null);
        }
    }
    let datum = avro(ticket).resolve(schema).expect("a ticket");
    let mut bytes = vec![0];
    bytes.extend(id.to_be_bytes());
    let writer = GenericDatumWriter::builder(schema).build().expect("writer");
    writer.write_value(&mut bytes, datum).expect("encoded");
    bytes
}

fn text<'a>(record: &'a Avro, name: &str) -> &'a str {
    let Avro::Record(fields) = record else { panic!("not a record: {record:?}") };
    match &fields.iter().find(|(field, _)| field == name).expect("field").1 {
        Avro::String(text) | Avro::Enum(_, text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Kafka: make test-kafka"]
async fn tickets_of_a_foreign_producer_run_and_their_results_are_read_by_a_foreign_consumer() {
    const TICKETS: usize = 40;
    let world = world_with_registry().await;
    let later = later_schema();
    let id = world.schema_id("execution.tickets-value", &later).await;
    let schema = Schema::parse_str(&later).expect("schema");
    let names: Vec<String> = (0..TICKETS).map(|n| n.to_string()).collect();
    for (n, name) in names.iter().enumerate() {
        let ticket = world.ticket(name, &format!("echo {name}"));
        if n % 2 == 0 {
            world.publish_raw(&world.ticket_id(name), Some(&framed(id, &schema, ticket))).await;
        } else {
            world.publish_spread(&ticket).await;
        }
    }
    world.publish_raw("no ticket", Some(b"no ticket")).await;

    let worker = world.worker(&[("RESULT_ENCODING", "avro")]).await;
    let mut results = eventually("all results", || {
        let results = world.topic("execution.results");
        (results.len() >= TICKETS).then_some(results)
    })
    .await;
    results.sort_by(|a, b| a.key.cmp(&b.key));
    let mut wanted: Vec<String> = names.iter().map(|name| world.ticket_id(name)).collect();
    wanted.sort();
    assert_eq!(results.len(), TICKETS);
    for (record, ticket) in results.iter().zip(&wanted) {
        assert_eq!(record.key.as_ref(), Some(ticket));
        assert_eq!(record.value[0], 0, "framed");
        let id = u32::from_be_bytes(record.value[1..FRAME].try_into().expect("four bytes"));
        let (_, answer) = get(&format!("{}/schemas/ids/{id}", world.registry_url)).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let schema = Schema::parse_str(answer["schema"].as_str().expect("schema")).expect("schema");
        let reader = GenericDatumReader::builder(&schema).build().expect("reader");
        let result = reader.read_value(&mut &record.value[FRAME..]).expect("a result");
        assert_eq!((text(&result, "ticket_id"), text(&result, "status")), (ticket.as_str(), "COMPLETED"));
    }
    let dead = world.dead_letters();
    assert_eq!(dead.len(), 1, "{dead:?}");
    world.one_run_each(&names).await;
    world.drained(TICKETS + 1).await;
    drop(worker);
}
