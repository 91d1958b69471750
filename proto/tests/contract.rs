//! The `.proto` files say what the platform's contract says: packages, names, numbers, types, streams.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// `contracts/service-registry.md §1`, in its order.
const SERVICE: &str = "
    Register RegisterRequest → RegisterResponse
    Heartbeat HeartbeatRequest → HeartbeatResponse
    Deregister DeregisterRequest → DeregisterResponse
    DiscoverAgents DiscoverRequest → DiscoverResponse
    GetAgent GetAgentRequest → GetAgentResponse
    ListAgents ListAgentsRequest → ListAgentsResponse
    WatchAgents WatchAgentsRequest → stream AgentChangeEvent
    NotifyAgent NotifyAgentRequest → NotifyAgentResponse
";

const ENUMS: &str = "
    AgentType AGENT_TYPE_UNSPECIFIED=0 WORKER=1 SCOUT=2 GUARD=3 ANALYST=4
    AgentStatus AGENT_STATUS_UNSPECIFIED=0 HEALTHY=1 UNHEALTHY=2 DEGRADED=3
    EventType EVENT_TYPE_UNSPECIFIED=0 REGISTERED=1 UPDATED=2 DEREGISTERED=3 STATUS_CHANGED=4
";

const MESSAGES: &str = "
    AgentTelemetry 1 success_rate double · 2 avg_duration_ms int64 · 3 total_executions int64 · 4 failed_executions int64 · 5 last_execution_at int64
    AgentInfo 1 agent_id string · 2 agent_type AgentType · 3 capabilities repeated string · 4 metadata map<string,string> · 5 telemetry AgentTelemetry · 6 status AgentStatus · 7 registered_at int64 · 8 last_seen int64 · 9 namespace string · 10 cluster string · 11 version string · 12 schema_version int32
    RegisterRequest 1 agent_type AgentType · 2 capabilities repeated string · 3 metadata map<string,string> · 4 namespace string · 5 cluster string · 6 version string · 7 telemetry AgentTelemetry
    RegisterResponse 1 agent_id string · 2 registration_token string · 3 registered_at int64
    HeartbeatRequest 1 agent_id string · 2 telemetry AgentTelemetry
    HeartbeatResponse 1 status AgentStatus · 2 last_seen int64
    DeregisterRequest 1 agent_id string
    DeregisterResponse 1 success bool
    DiscoverRequest 1 capabilities repeated string · 2 filters map<string,string> · 3 max_results int32
    DiscoverResponse 1 agents repeated AgentInfo · 2 ranked bool
    GetAgentRequest 1 agent_id string
    GetAgentResponse 1 agent AgentInfo
    ListAgentsRequest 1 agent_type AgentType · 2 filters map<string,string>
    ListAgentsResponse 1 agents repeated AgentInfo
    WatchAgentsRequest 1 agent_type AgentType
    AgentChangeEvent 1 event_type EventType · 2 agent AgentInfo · 3 timestamp int64
    NotifyAgentRequest 1 agent_id string · 2 notification_type string · 3 message string · 4 metadata map<string,string>
    NotifyAgentResponse 1 success bool · 2 error string
";

fn file() -> FileDescriptorProto {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/protos");
    let files = protox::compile(["service_registry.proto"], [folder]).expect("it compiles");
    let [file] = <[_; 1]>::try_from(files.file).expect("one file");
    file
}

fn lines(table: &str) -> Vec<&str> {
    table.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// `.package.Name` → `Name`.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn enumeration(found: &EnumDescriptorProto) -> String {
    let values = found.value.iter().map(|value| format!(" {}={}", value.name(), value.number()));
    format!("{}{}", found.name(), values.collect::<String>())
}

fn message(found: &DescriptorProto) -> String {
    let fields: Vec<String> = found.field.iter().map(|field| self::field(found, field)).collect();
    format!("{} {}", found.name(), fields.join(" · "))
}

fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let nested = message.nested_type.iter().find(|nested| field.type_name().ends_with(&format!(".{}", nested.name())));
    let kind = match (nested, field.r#type()) {
        (Some(entry), _) if entry.options.as_ref().is_some_and(|options| options.map_entry()) => {
            format!("map<{},{}>", scalar(entry.field[0].r#type()), scalar(entry.field[1].r#type()))
        }
        (_, Type::Message | Type::Enum) => last(field.type_name()).to_owned(),
        (_, kind) => scalar(kind).to_owned(),
    };
    let repeated = if field.label() == Label::Repeated && !kind.starts_with("map<") { "repeated " } else { "" };
    format!("{} {} {repeated}{kind}", field.number(), field.name())
}

fn scalar(kind: Type) -> &'static str {
    match kind {
        Type::Double => "double",
        Type::Int64 => "int64",
        Type::Int32 => "int32",
        Type::Bool => "bool",
        Type::String => "string",
        other => panic!("the contract has no {other:?}"),
    }
}

#[test]
fn the_service_is_the_contracts() {
    let file = file();
    assert_eq!((file.package(), file.syntax()), ("neural_hive.service_registry", "proto3"));
    assert_eq!(file.service.len(), 1);
    assert_eq!(file.service[0].name(), "ServiceRegistry");
    let methods = file.service[0].method.iter().map(|method| {
        assert!(!method.client_streaming());
        let stream = if method.server_streaming() { "stream " } else { "" };
        format!("{} {} → {stream}{}", method.name(), last(method.input_type()), last(method.output_type()))
    });
    assert_eq!(methods.collect::<Vec<_>>(), lines(SERVICE));
}

#[test]
fn messages_and_enums_are_the_contracts() {
    let file = file();
    assert_eq!(file.message_type.iter().map(message).collect::<Vec<_>>(), lines(MESSAGES));
    let nested = file.message_type.iter().flat_map(|message| &message.enum_type);
    assert_eq!(file.enum_type.iter().chain(nested).map(enumeration).collect::<Vec<_>>(), lines(ENUMS));
}
