//! Properties over arbitrary values and damaged messages.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod common;
mod every_type;

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use ticket_schemas::*;

use every_type::ask;

fn word<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

fn ticket_id() -> impl Strategy<Value = TicketId> {
    "[A-Za-z0-9._:-]{1,40}".prop_map(|text| TicketId::parse(&text).unwrap())
}

fn plain_id() -> impl Strategy<Value = String> {
    // Anything but control characters.
    "[^\\p{Cc}]{1,20}"
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![scalar(), Just(Value::Null)];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn sla() -> impl Strategy<Value = Sla> {
    (1..253_402_300_799_999_i64, 1..300_000_000_i64, 0..=1000).prop_map(|(deadline, timeout_ms, max_retries)| Sla {
        deadline: Some(deadline),
        timeout_ms: Some(timeout_ms),
        max_retries: Some(max_retries),
    })
}

prop_compose! {
    fn identity()(
        ticket_id in ticket_id(), plan in plain_id(), intent in plain_id(), decision in option::of(plain_id()),
        correlation in option::of(plain_id()), trace in option::of(plain_id()), span in option::of(plain_id()),
        task_id in plain_id(), task_type in word(TaskType::ALL), description: String,
        dependencies in vec(ticket_id(), 0..4), status in word(TicketStatus::ALL),
    ) -> Ticket {
        let small = decode_json_ticket(common::small_ticket().to_string().as_bytes()).unwrap();
        Ticket {
            ticket_id, plan_id: plan.into(), intent_id: intent.into(), decision_id: decision,
            correlation_id: correlation, trace_id: trace, span_id: span, task_id: task_id.into(), task_type,
            description, dependencies, status, ..small
        }
    }
}

prop_compose! {
    fn ticket()(
        base in identity(), priority in word(Priority::ALL), risk_band in word(RiskBand::ALL),
        security_level in word(SecurityLevel::ALL), sla in sla(), delivery_mode in word(DeliveryMode::ALL),
        consistency in word(Consistency::ALL), durability in word(Durability::ALL),
        parameters in btree_map(any::<String>(), any_json(), 0..5), required_capabilities in vec(any::<String>(), 0..4),
        times in (1..9_999_999_999_999_i64, option::of(1..9_999_999_999_999_i64), option::of(0..999_999_999_i64)),
    ) -> Ticket {
        Ticket {
            priority, risk_band, security_level, sla: Some(sla),
            qos: Some(Qos { delivery_mode, consistency, durability }), parameters, required_capabilities,
            created_at: Some(times.0), started_at: times.1, completed_at: times.1,
            estimated_duration_ms: times.2, actual_duration_ms: times.2, ..base
        }
    }
}

prop_compose! {
    fn whole_ticket()(
        base in ticket(), retry_count in 0..=i32::MAX, error_message in option::of(any::<String>()),
        compensation_ticket_id in option::of(plain_id()), metadata in btree_map(any::<String>(), any::<String>(), 0..4),
        schema_version in 1..=i32::MAX, holes: [bool; 4],
    ) -> Ticket {
        let mut ticket = Ticket { retry_count, error_message, compensation_ticket_id, metadata, schema_version, ..base };
        if holes[0] { ticket.decision_id = None; }
        if holes[1] { ticket.plan_id = PlanId::default(); }
        ticket
    }
}

prop_compose! {
    fn result()(
        ticket_id in ticket_id(), status in word(ExecutionStatus::ALL), success: bool,
        output in btree_map(any::<String>(), any_json(), 0..5), metadata in btree_map(any::<String>(), any_json(), 0..5),
        logs in vec(any::<String>(), 0..4), error_message in option::of(any::<String>()),
        actual_duration_ms in option::of(0..999_999_999_i64), agent_id in plain_id(),
        timestamp in 1..9_999_999_999_999_i64, schema_version in 1..=i32::MAX,
    ) -> ExecutionResult {
        ExecutionResult {
            ticket_id, status, result: ExecutionResultPayload { success, output, metadata, logs }, error_message,
            actual_duration_ms, agent_id, timestamp, schema_version,
        }
    }
}

/// Values as the wire's maps of strings give them back.
fn texts(values: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), text(value).into())).collect()
}

/// What Python's `repr` makes of a value.
fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let escaped: String = text
                .chars()
                .map(|character| match character {
                    '\\' => "\\\\".to_owned(),
                    '\n' => "\\n".to_owned(),
                    '\r' => "\\r".to_owned(),
                    '\t' => "\\t".to_owned(),
                    found if found == quote => format!("\\{found}"),
                    found if found.is_control() => format!("\\x{:02x}", u32::from(found)),
                    found => found.to_string(),
                })
                .collect();
            format!("{quote}{escaped}{quote}")
        }
        Value::Array(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{}: {}", repr(&json!(key)), repr(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// Tries everything that reads bytes.
fn decode_all(bytes: &[u8]) {
    let schemas = [WriterSchema::ticket(), WriterSchema::result()];
    if let Ok(Frame::Avro { body, .. }) = Frame::detect(Some(bytes)) {
        for schema in &schemas {
            let ticket = decode_avro_ticket(body, schema);
            if let Ok(ticket) = &ticket {
                // Whatever is accepted can be handled further.
                ask(&ticket.parameters);
                let again = encode_avro_ticket(ticket, 1).unwrap();
                let again = decode_avro_ticket(&again[5..], &schemas[0]).unwrap();
                assert_eq!(&again, ticket);
                assert_eq!(WorkDigest::of(&again), WorkDigest::of(ticket));
            }
            let _ = decode_avro_result(body, schema);
        }
    }
    if let Err(error) = decode_json_ticket(bytes) {
        let _ = (error.to_string(), error.ticket_id_hint(), error.task_type_hint());
    }
    let _ = decode_json_result(bytes);
    let _ = DlqRecord::parse(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tickets_survive_json(ticket in whole_ticket()) {
        prop_assert_eq!(&decode_json_ticket(&encode_json_ticket(&ticket)).unwrap(), &ticket);
        let payload = serde_json::to_string(&ticket).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Ticket>(&payload).unwrap(), &ticket);
    }

    #[test]
    fn tickets_survive_avro_up_to_the_text_of_parameters(ticket in whole_ticket()) {
        let value = encode_avro_ticket(&ticket, 3).unwrap();
        let decoded = decode_avro_ticket(&value[5..], &WriterSchema::ticket()).unwrap();
        prop_assert_eq!(&encode_avro_ticket(&decoded, 3).unwrap(), &value);
        let expected = Ticket { parameters: texts(&ticket.parameters), ..ticket };
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn one_ticket_has_one_digest_in_both_encodings(ticket in whole_ticket()) {
        let digest = WorkDigest::of(&ticket);
        let avro = encode_avro_ticket(&ticket, 3).unwrap();
        prop_assert_eq!(WorkDigest::of(&decode_avro_ticket(&avro[5..], &WriterSchema::ticket()).unwrap()), digest);
        prop_assert_eq!(WorkDigest::of(&decode_json_ticket(&encode_json_ticket(&ticket)).unwrap()), digest);
    }

    #[test]
    fn results_survive_both_encodings(result in result()) {
        let wire = ExecutionResultPayload {
            output: texts(&result.result.output), metadata: texts(&result.result.metadata), ..result.result.clone()
        };
        let expected = ExecutionResult { result: wire, ..result.clone() };
        let avro = encode_avro_result(&result, 2).unwrap();
        prop_assert_eq!(&decode_avro_result(&avro[5..], &WriterSchema::result()).unwrap(), &expected);
        let json = encode_json_result(&result, &BTreeMap::new());
        prop_assert_eq!(&decode_json_result(&json).unwrap(), &expected);
        prop_assert_eq!(&encode_avro_result(&expected, 2).unwrap(), &avro);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600), framed: bool) {
        let bytes = if framed { [&[0, 0, 0, 0, 1][..], &bytes].concat() } else { bytes };
        decode_all(&bytes);
    }

    #[test]
    fn arbitrary_json_never_panics(value in any_json(), key in select(vec!["sla", "parameters", "dependencies", "priority", "metadata", "task_id"])) {
        decode_all(value.to_string().as_bytes());
        let object = common::with(common::small_ticket(), key, value);
        decode_all(object.to_string().as_bytes());
    }

    #[test]
    fn parameters_of_any_kind_never_panic(
        values in vec((select(vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]), any_json()), 0..6),
        text in "[\\[\\]{}()'\",: \\\\a-eNoneTru0-9.+-]{0,60}",
    ) {
        let mut parameters: BTreeMap<String, Value> =
            values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        ask(&parameters);
        let nested: BTreeMap<_, _> = parameters.iter().map(|(key, value)| (key.clone(), json!(repr(value)))).collect();
        ask(&nested);
        for key in ["a", "b", "c", "e", "f", "g", "i", "j"] {
            parameters = BTreeMap::from([(key.to_owned(), json!(text))]);
            ask(&parameters);
        }
    }

    #[test]
    fn python_literals_round_trip(value in any_json()) {
        prop_assert_eq!(parse_python_literal(&repr(&value)), Ok(value.clone()));
        if value.is_array() || value.is_object() {
            prop_assert_eq!(canonical(&json!(repr(&value))), canonical(&value));
            prop_assert_eq!(canonical(&json!(value.to_string())), canonical(&value));
        }
    }

    #[test]
    fn canonical_is_idempotent_for_structures(value in any_json()) {
        if let Some(once) = canonical(&value) {
            prop_assert_eq!(canonical(&once), Some(once));
        }
    }

    #[test]
    fn damaged_vectors_never_panic(
        which: Index,
        damage in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let vectors = common::vectors();
        let (_, mut bytes) = vectors[which.index(vectors.len())].clone();
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] ^= 1 << (byte % 8),
                1 => bytes[at] = byte,
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        decode_all(&bytes);
    }

    #[test]
    fn dead_letters_give_the_bytes_back(bytes in vec(any::<u8>(), 0..2000), key in option::of(vec(any::<u8>(), 0..50)), error: String) {
        let parsed: Option<Value> = serde_json::from_slice(&bytes).ok();
        let envelope = DlqEnvelope {
            original: parsed.as_ref(), ticket_id_hint: None, task_type_hint: None, key: key.as_deref(),
            value: Some(&bytes), headers: &[], error: &error, error_type: "T", error_code: "c", retry_count: 0,
            headers_incomplete: false,
            source: DlqSource { topic: "t", partition: 0, offset: 0, timestamp: None }, last_failure_at_ms: 0,
            published_at_ms: 0, software_version: "v",
        };
        let record = DlqRecord::parse(&envelope.to_json_bytes()).unwrap();
        prop_assert_eq!(record.original_value(), Ok(Some(bytes)));
        prop_assert_eq!(record.original_key(), key);
    }
}

/// Every single-bit flip of every vector, without chance: Avro has no checksum, so many decode into another ticket.
#[test]
fn every_bit_flip_is_handled() {
    for (_, bytes) in common::vectors() {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            decode_all(&damaged);
        }
    }
}
