//! Who may do what: caller by verb by identity, every cell of it.

use std::collections::BTreeSet;

use super::spiffe::{Secured, World};
use super::*;
use crate::test_authority::Authority;
use crate::test_workload_api::{Svid, TrustDomain};

const TRUST_DOMAIN: &str = "neural-hive.local";
const ORCHESTRATOR: &str = "spiffe://neural-hive.local/orchestrator-dynamic";
const AUDIENCE: &str = "worker-agents.neural-hive.local";

/// Operations that a caller needs a permission for: method, path, permission, body.
const OPERATIONS: [(&str, &str, &str, &str); 14] = [
    ("GET", "/api/v1/status", "status", ""),
    ("POST", "/api/v1/tasks", "submit", r#"{"task_id":"task_t","ticket_id":"t"}"#),
    ("GET", "/api/v1/tasks/{task_id}", "read", ""),
    ("DELETE", "/api/v1/tasks/{task_id}", "cancel", ""),
    ("POST", "/api/v1/tasks/{ticket_id}/cancel", "cancel", r#"{"reason":"preemption"}"#),
    ("GET", "/api/v1/tickets/{ticket_id}", "read", ""),
    ("POST", "/api/v1/tickets/{ticket_id}/cancel", "cancel", WHY),
    ("POST", "/api/v1/tickets/{ticket_id}/pause", "pause", WHY),
    ("POST", "/api/v1/tickets/{ticket_id}/resume", "resume", WHY),
    ("POST", "/api/v1/tickets/{ticket_id}/retry", "retry", WHY),
    ("POST", "/api/v1/tickets/{ticket_id}/extend-deadline", "extend-deadline", r#"{"why":"x","deadline_ms":1}"#),
    ("POST", "/api/v1/tickets/{ticket_id}/skip-dependency", "skip-dependency", r#"{"why":"x","dependency":"d"}"#),
    ("POST", "/api/v1/tickets/{ticket_id}/compensation/resume", "compensation-resume", WHY),
    ("POST", "/api/v1/tickets/{ticket_id}/compensation/skip", "compensation-skip", WHY),
];
#[tokio::test]
async fn every_operation_of_the_document_is_in_the_authorisation_table() {
    let document = json_of(ask(&port_of(&[]), "GET", DOCUMENT, &[], "").await).await;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let mut secured = BTreeSet::new();
    let mut open = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let place = (method.to_uppercase(), path.clone());
            if operation["security"].is_null() {
                open.insert(place)
            } else {
                secured.insert(place)
            };
        }
    }
    let listed = OPERATIONS.map(|(method, path, ..)| (method.to_owned(), path.to_owned()));
    assert_eq!(secured, BTreeSet::from(listed));
    assert_eq!(open, ["/health", "/metrics", "/ready"].map(|path| ("GET".to_owned(), path.to_owned())).into());
    let used: BTreeSet<&str> = OPERATIONS.map(|(_, _, permission, _)| permission).into();
    assert_eq!(used, Permission::ALL.map(Permission::as_str).into(), "a permission that no operation takes");
}

/// What a caller presents.
enum Presented<'a> {
    /// Headers, on a plain connection.
    Plain(Vec<(&'a str, &'a str)>),
    /// A certificate for the connection, and headers.
    Certified(Secured, Vec<(&'a str, &'a str)>),
}

/// What follows from it.
#[derive(Clone)]
enum Then {
    /// No connection.
    Nothing,
    /// Nobody knows who that is.
    Unknown,
    /// Just these permissions.
    May(Vec<&'static str>),
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn inc_50_inc_106_every_caller_may_do_what_its_identity_is_allowed_and_nothing_else() {
    const OPS: &str = "Bearer ops-token-0123456789";
    const ORCHESTRATING: &str = "Bearer orchestrator-0123456789";
    const STRANGER: &str = "Bearer stranger-0123456789";
    let tokens = format!(
        "ops=ops-token-0123456789,{ORCHESTRATOR}=orchestrator-0123456789,stranger=stranger-0123456789,\
         OPS=capitals-0123456789,{ORCHESTRATOR}-2=lookalike-0123456789,spiffe://other/orchestrator-dynamic=foreign-0123456789"
    );
    let world = World::start(
        TRUST_DOMAIN,
        &[("HTTP_API_TOKEN", &tokens), ("HTTP_API_ALLOW", ALLOW), ("HTTP_API_RATE", "1000")],
    )
    .await;
    let domain = &world.domain;
    let (namesake, foreign) = (TrustDomain::new(TRUST_DOMAIN), TrustDomain::new("other"));
    let bearer = |domain: &TrustDomain, id: &str, audience: &str, lifetime| {
        format!("Bearer {}", domain.token(id, &[audience.to_owned()], lifetime))
    };
    let (stranger_id, lookalike_id) = (domain.id("/stranger"), format!("{ORCHESTRATOR}-2"));
    let right = bearer(domain, ORCHESTRATOR, AUDIENCE, 60);
    let forged = format!("{}{}", &right[..right.len() - 4], if right.ends_with("AAAA") { "BBBB" } else { "AAAA" });
    let (unknown, lookalike) =
        (bearer(domain, &stranger_id, AUDIENCE, 60), bearer(domain, &lookalike_id, AUDIENCE, 60));
    let expired = bearer(domain, ORCHESTRATOR, AUDIENCE, -1);
    let for_registry = bearer(domain, ORCHESTRATOR, "service-registry.neural-hive.local", 60);
    let of_namesake = bearer(&namesake, ORCHESTRATOR, AUDIENCE, 60);
    let of_foreign = bearer(&foreign, "spiffe://other/orchestrator-dynamic", AUDIENCE, 60);
    let of_foreign_as_ours = bearer(&foreign, ORCHESTRATOR, AUDIENCE, 60);
    let certified = |svid: &Svid| Secured::with(&world, Some(svid.chain()));
    let by_id = |id: &str| certified(&domain.issue(id, 60));
    let nameless = Secured::with(&world, Some(Authority::new("any").issue().chain()));

    let forged_cert =
        ("x-forwarded-client-cert", "By=spiffe://x;Hash=00;URI=spiffe://neural-hive.local/orchestrator-dynamic");
    let forged_caller = ("x-internal-caller", ORCHESTRATOR);
    fn authorization(value: &str) -> (&'static str, &str) {
        ("authorization", value)
    }
    let plain = |headers: &[(&'static str, &'static str)]| Presented::Plain(headers.to_vec());
    let (all, nothing) = (Then::May(Permission::ALL.map(Permission::as_str).to_vec()), Then::May(Vec::new()));
    let orchestrating = Then::May(vec!["status", "cancel"]);
    let callers: Vec<(&str, Presented<'_>, Then)> = vec![
        ("nobody", plain(&[]), Then::Unknown),
        ("a wrong token", plain(&[authorization("Bearer ops-token-0123456780")]), Then::Unknown),
        ("the beginning of a token", plain(&[authorization("Bearer ops-token-012345678")]), Then::Unknown),
        ("a token and more", plain(&[authorization("Bearer ops-token-01234567890")]), Then::Unknown),
        ("an empty token", plain(&[authorization("Bearer ")]), Then::Unknown),
        ("another scheme", plain(&[authorization("Basic ops-token-0123456789")]), Then::Unknown),
        ("no scheme", plain(&[authorization("ops-token-0123456789")]), Then::Unknown),
        ("two tokens", plain(&[authorization(OPS), authorization(STRANGER)]), Then::Unknown),
        ("an identity in the token's place", plain(&[authorization("Bearer ops")]), Then::Unknown),
        ("a forged certificate", plain(&[forged_cert]), Then::Unknown),
        ("a forged caller", plain(&[forged_caller]), Then::Unknown),
        ("both, and a wrong token", plain(&[forged_cert, forged_caller, authorization("Bearer x")]), Then::Unknown),
        ("ops", plain(&[authorization(OPS)]), all.clone()),
        ("ops, in small letters", plain(&[authorization("bearer ops-token-0123456789")]), all),
        ("the orchestrator", plain(&[authorization(ORCHESTRATING)]), orchestrating.clone()),
        (
            "the orchestrator, forging",
            plain(&[authorization(ORCHESTRATING), forged_cert, forged_caller]),
            orchestrating.clone(),
        ),
        ("a stranger", plain(&[authorization(STRANGER)]), nothing.clone()),
        ("a stranger, forging", plain(&[authorization(STRANGER), forged_cert, forged_caller]), nothing.clone()),
        ("an identity in other letters", plain(&[authorization("Bearer capitals-0123456789")]), nothing.clone()),
        ("an identity that begins alike", plain(&[authorization("Bearer lookalike-0123456789")]), nothing.clone()),
        ("an identity of another domain", plain(&[authorization("Bearer foreign-0123456789")]), nothing.clone()),
        ("a JWT-SVID", Presented::Plain(vec![authorization(&right)]), orchestrating.clone()),
        (
            "a JWT-SVID, forging",
            Presented::Plain(vec![authorization(&right), forged_cert, forged_caller]),
            orchestrating.clone(),
        ),
        ("a JWT-SVID of nobody", Presented::Plain(vec![authorization(&unknown)]), nothing.clone()),
        (
            "a JWT-SVID of nobody, forging",
            Presented::Plain(vec![authorization(&unknown), forged_cert, forged_caller]),
            nothing.clone(),
        ),
        ("a JWT-SVID that begins alike", Presented::Plain(vec![authorization(&lookalike)]), nothing.clone()),
        ("a JWT-SVID that has expired", Presented::Plain(vec![authorization(&expired)]), Then::Unknown),
        ("a JWT-SVID for another", Presented::Plain(vec![authorization(&for_registry)]), Then::Unknown),
        ("a JWT-SVID with a forged signature", Presented::Plain(vec![authorization(&forged)]), Then::Unknown),
        ("a JWT-SVID of another authority", Presented::Plain(vec![authorization(&of_namesake)]), Then::Unknown),
        ("a JWT-SVID of a foreign trust domain", Presented::Plain(vec![authorization(&of_foreign)]), Then::Unknown),
        (
            "a JWT-SVID in our name by a foreign trust domain",
            Presented::Plain(vec![authorization(&of_foreign_as_ours), forged_cert, forged_caller]),
            Then::Unknown,
        ),
        ("two JWT-SVIDs", Presented::Plain(vec![authorization(&right), authorization(&right)]), Then::Unknown),
        ("a certificate", Presented::Certified(by_id(ORCHESTRATOR), vec![]), orchestrating.clone()),
        (
            "a certificate, and headers that are not looked at",
            Presented::Certified(by_id(ORCHESTRATOR), vec![authorization(OPS), forged_cert]),
            orchestrating,
        ),
        ("a certificate of nobody", Presented::Certified(by_id(&stranger_id), vec![]), nothing.clone()),
        (
            "a certificate of nobody, forging",
            Presented::Certified(by_id(&stranger_id), vec![forged_cert, forged_caller]),
            nothing.clone(),
        ),
        ("a certificate that begins alike", Presented::Certified(by_id(&lookalike_id), vec![]), nothing),
        (
            "a certificate that has expired",
            Presented::Certified(certified(&domain.issue(ORCHESTRATOR, -10)), vec![]),
            Then::Nothing,
        ),
        (
            "a certificate of another authority",
            Presented::Certified(certified(&namesake.issue(ORCHESTRATOR, 60)), vec![forged_cert]),
            Then::Nothing,
        ),
        (
            "a certificate of a foreign trust domain",
            Presented::Certified(certified(&foreign.issue("spiffe://other/orchestrator-dynamic", 60)), vec![]),
            Then::Nothing,
        ),
        ("a certificate for a host", Presented::Certified(nameless, vec![authorization(OPS)]), Then::Nothing),
        (
            "no certificate, and a token",
            Presented::Certified(Secured::with(&world, None), vec![authorization(OPS)]),
            Then::Nothing,
        ),
    ];
    for (who, presented, then) in &callers {
        for (method, path, permission, body) in OPERATIONS {
            let path = path.replace("{ticket_id}", "t").replace("{task_id}", "task_t");
            let json = [("content-type", "application/json")];
            let answer = match presented {
                Presented::Plain(headers) => {
                    Some(ask(&world.port, method, &path, &[&headers[..], &json].concat(), body).await)
                }
                Presented::Certified(caller, headers) => {
                    caller.ask(method, &path, &[&headers[..], &json].concat(), body).await
                }
            };
            let cell = format!("{who}: {method} {path}");
            let Some(answer) = answer else {
                assert!(matches!(then, Then::Nothing), "{cell}: no connection");
                continue;
            };
            let status = answer.status();
            match then {
                Then::Nothing => panic!("{cell}: {status}"),
                Then::Unknown => {
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{cell}");
                    assert!(answer.headers().contains_key("www-authenticate"), "{cell}");
                }
                Then::May(allowed) if !allowed.contains(&permission) => {
                    assert_eq!(status, StatusCode::FORBIDDEN, "{cell}");
                }
                // What needs Temporal says that it is not there yet.
                Then::May(_) => assert!([200, 202, 503].contains(&status.as_u16()), "{cell}: {status}"),
            }
            if status.is_client_error() {
                let problem = json_of(answer).await;
                let text = problem.to_string();
                let shown = text.contains("0123456789") || text.contains("eyJ");
                assert!(!shown && problem["next_action"].is_string(), "{cell}: {text}");
            }
        }
    }
    let status =
        async |value: &str| json_of(ask(&world.port, "GET", "/api/v1/status", &[authorization(value)], "").await).await;
    let proved = |status: &Value| status["authenticated_spiffe_id"].clone();
    assert_eq!(proved(&status(ORCHESTRATING).await), Value::Null, "a token proves no SPIFFE id");
    assert_eq!(proved(&status(&right).await), ORCHESTRATOR);
    let by_certificate = by_id(ORCHESTRATOR).ask("GET", "/api/v1/status", &[], "").await.expect("an answer");
    assert_eq!(proved(&json_of(by_certificate).await), ORCHESTRATOR);
}
