//! The `.proto` files say what the platform's contract and the public standard say: packages, names, numbers, types, streams.
//! They are read as text, and a form of the language that is not used yet is an error here.

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

/// `contracts/execution-ticket-service.md §5`, in its order; types that it does not name are texts.
const TICKET_METHODS: &str = "
    GetTicket GetTicketRequest → GetTicketResponse
    ListTickets ListTicketsRequest → ListTicketsResponse
    UpdateTicketStatus UpdateTicketStatusRequest → UpdateTicketStatusResponse
    GenerateToken GenerateTokenRequest → GenerateTokenResponse
";

const TICKET_MESSAGES: &str = "
    ExecutionTicketProto 1 ticket_id string · 2 plan_id string · 3 intent_id string · 4 task_id string · 5 task_type string · 6 description string · 7 status string · 8 priority string · 9 created_at int64
    GetTicketRequest 1 ticket_id string
    GetTicketResponse 1 ticket ExecutionTicketProto
    ListTicketsRequest 1 plan_id string · 2 status string · 3 offset int32 · 4 limit int32
    ListTicketsResponse 1 tickets repeated ExecutionTicketProto · 2 total int32
    UpdateTicketStatusRequest 1 ticket_id string · 2 status string · 3 error_message string
    UpdateTicketStatusResponse 1 ticket ExecutionTicketProto
    GenerateTokenRequest 1 ticket_id string
    GenerateTokenResponse 1 access_token string · 2 expires_at int64
";

/// What the file declares, in its order and in the words of the contract.
#[derive(Debug, Default)]
struct Declared {
    package: String,
    service: String,
    methods: Vec<String>,
    enums: Vec<String>,
    messages: Vec<String>,
}

/// What is open while a file is read.
enum Open {
    Service,
    Enum(String),
    /// A message: its name and its fields.
    Message(String, Vec<String>),
}

/// Reads a file that has one declaration on a line.
fn declared(text: &str) -> Declared {
    let mut declared = Declared::default();
    let mut open: Vec<Open> = Vec::new();
    for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
        let words: Vec<&str> = line.split([' ', ';', '(', ')']).filter(|word| !word.is_empty()).collect();
        match (words.as_slice(), open.last_mut()) {
            ([], _) | (["syntax", "=", "\"proto3\""], None) => {}
            (["package", name], None) => declared.package = (*name).to_owned(),
            (["service", name, "{"], None) => {
                declared.service = (*name).to_owned();
                open.push(Open::Service);
            }
            (["rpc", name, request, "returns", answer @ ..], Some(Open::Service)) => {
                declared.methods.push(format!("{name} {request} → {}", answer.join(" ")));
            }
            (["enum", name, "{"], _) => open.push(Open::Enum((*name).to_owned())),
            ([name, "=", number], Some(Open::Enum(text))) => text.push_str(&format!(" {name}={number}")),
            (["message", name, "{}"], None) => declared.messages.push((*name).to_owned()),
            (["message", name, "{"], None) => open.push(Open::Message((*name).to_owned(), Vec::new())),
            ([kind @ .., name, "=", number], Some(Open::Message(_, fields))) => {
                let kind = kind.join(" ").replace(", ", ",");
                fields.push(format!("{number} {name} {kind}"));
            }
            (["}"], Some(_)) => match open.pop() {
                Some(Open::Enum(text)) => declared.enums.push(text),
                Some(Open::Message(name, fields)) => declared.messages.push(format!("{name} {}", fields.join(" · "))),
                Some(Open::Service) | None => {}
            },
            _ => panic!("not understood: {line:?}"),
        }
    }
    declared
}

fn lines(table: &str) -> Vec<&str> {
    table.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_service_registry_is_the_contracts() {
    let declared = declared(include_str!("../protos/service_registry.proto"));
    assert_eq!((&*declared.package, &*declared.service), ("neural_hive.service_registry", "ServiceRegistry"));
    assert_eq!(declared.methods, lines(SERVICE));
    assert_eq!(declared.enums, lines(ENUMS));
    assert_eq!(declared.messages, lines(MESSAGES));
}

/// The public standard's, as far as it is used.
#[test]
fn inc_31_the_workload_api_is_the_standards() {
    let declared = declared(include_str!("../protos/workload.proto"));
    // No package: the path of a call is `/SpiffeWorkloadAPI/FetchX509SVID`.
    assert_eq!((&*declared.package, &*declared.service), ("", "SpiffeWorkloadAPI"));
    let methods = [
        "FetchX509SVID X509SVIDRequest → stream X509SVIDResponse",
        "FetchJWTSVID JWTSVIDRequest → JWTSVIDResponse",
        "FetchJWTBundles JWTBundlesRequest → stream JWTBundlesResponse",
    ];
    assert_eq!(declared.methods, methods);
    let messages = [
        "X509SVIDRequest",
        "X509SVIDResponse 1 svids repeated X509SVID · 2 crl repeated bytes · 3 federated_bundles map<string,bytes>",
        "X509SVID 1 spiffe_id string · 2 x509_svid bytes · 3 x509_svid_key bytes · 4 bundle bytes · 5 hint string",
        "JWTSVIDRequest 1 audience repeated string · 2 spiffe_id string",
        "JWTSVIDResponse 1 svids repeated JWTSVID",
        "JWTSVID 1 spiffe_id string · 2 svid string · 3 hint string",
        "JWTBundlesRequest",
        "JWTBundlesResponse 1 bundles map<string,bytes>",
    ];
    assert_eq!(declared.messages, messages);
}

#[test]
fn the_ticket_service_is_the_contracts() {
    let declared = declared(include_str!("../protos/ticket_service.proto"));
    assert_eq!((&*declared.package, &*declared.service), ("ticket_service", "TicketService"));
    assert_eq!(declared.methods, lines(TICKET_METHODS));
    assert!(declared.enums.is_empty(), "{:?}", declared.enums);
    assert_eq!(declared.messages, lines(TICKET_MESSAGES));
}
