//! The service over gRPC: statuses and look-ups. Tickets are created over HTTP alone, and durations are not told, which the
//! service would discard (INC-34).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use platform_proto::ticket_service::ticket_service_client::TicketServiceClient as Grpc;
use platform_proto::ticket_service::{ExecutionTicketProto, GetTicketRequest, UpdateTicketStatusRequest};
use ticket_activities::border;
use ticket_workflows::{StatusUpdate, TraceContext};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::answer::{Answer, NoAnswer};
use super::bounded;
use crate::net;

/// The service at one address. Calls share a connection, which is made anew after a call that got no answer.
#[derive(Debug)]
pub(super) struct GrpcTransport {
    endpoint: Endpoint,
    timeout: Duration,
    connection: Mutex<Option<Grpc<Channel>>>,
}

impl GrpcTransport {
    /// `address`: host:port. Connects at the first call.
    pub(super) fn new(address: &str, timeout: Duration) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(timeout)
            .user_agent(concat!("worker-agents/", env!("CARGO_PKG_VERSION")))?;
        Ok(Self { endpoint, timeout, connection: Mutex::default() })
    }

    pub(super) async fn set(
        &self,
        update: &StatusUpdate,
        trace: &TraceContext,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        let message = UpdateTicketStatusRequest {
            ticket_id: update.ticket_id.clone(),
            status: update.status.as_str().to_owned(),
            error_message: update.error_message.as_deref().map(bounded).unwrap_or_default().to_owned(),
        };
        let mut grpc = self.connection();
        let call = border("ticket_service.update", grpc.update_ticket_status(traced(message, trace)));
        self.answer(within, async { Ok(call.await?.into_inner().ticket) }).await
    }

    pub(super) async fn look(
        &self,
        ticket_id: &str,
        trace: &TraceContext,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        let message = GetTicketRequest { ticket_id: ticket_id.to_owned() };
        let mut grpc = self.connection();
        let call = border("ticket_service.get", grpc.get_ticket(traced(message, trace)));
        self.answer(within, async { Ok(call.await?.into_inner().ticket) }).await
    }

    async fn answer(
        &self,
        within: Duration,
        call: impl Future<Output = Result<Option<ExecutionTicketProto>, Status>>,
    ) -> Result<Answer, NoAnswer> {
        let within = within.min(self.timeout);
        let answer = tokio::time::timeout(within, call).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("nothing came within {} ms", within.as_millis())))
        });
        let answer = match answer {
            Ok(Some(ticket)) => Ok(Answer::Good(Some(ticket.status))),
            Ok(None) => Err(NoAnswer::of_this("an answer without a ticket".to_owned())),
            Err(status) => meaning(&status),
        };
        if answer.as_ref().is_err_and(|error| error.silent) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    fn connection(&self) -> Grpc<Channel> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.get_or_insert_with(|| Grpc::new(self.endpoint.connect_lazy())).clone()
    }
}

fn traced<T>(message: T, trace: &TraceContext) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in trace.headers() {
        // What no header can hold is left out.
        if let Ok(value) = MetadataValue::try_from(value) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

/// What a code means, in the classes of the HTTP statuses.
fn meaning(status: &Status) -> Result<Answer, NoAnswer> {
    let said = net::said(status);
    match status.code() {
        Code::NotFound => Ok(Answer::UnknownTicket),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::AlreadyExists => {
            Ok(Answer::Refused(said))
        }
        // What a server in Python makes of any exception.
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Aborted => Ok(Answer::Broken(said)),
        // Matters of set-up, which somebody mends.
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
            Err(NoAnswer::of_this(format!("{said}; check EXECUTION_TICKET_SERVICE_GRPC_ADDRESS")))
        }
        _ => Err(NoAnswer::of_any(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes of [`Answer`] and [`NoAnswer`] in a word.
    fn class(code: Code) -> &'static str {
        match meaning(&Status::new(code, "said")) {
            Ok(answer) => answer.error().expect("no good answer"),
            Err(NoAnswer { silent: true, .. }) => "silent",
            Err(NoAnswer { silent: false, .. }) => "of this call",
        }
    }

    #[test]
    fn every_code_has_a_class() {
        for (class_of, codes) in [
            ("unknown_ticket", &[Code::NotFound][..]),
            ("refused", &[Code::InvalidArgument, Code::FailedPrecondition, Code::OutOfRange, Code::AlreadyExists]),
            ("broken", &[Code::Unknown, Code::Internal, Code::DataLoss, Code::Aborted]),
            ("of this call", &[Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented]),
            ("silent", &[Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Cancelled]),
        ] {
            for code in codes {
                assert_eq!(class(*code), class_of, "{code:?}");
            }
        }
    }

    #[cfg(feature = "dev-stack")]
    #[tokio::test]
    async fn calls_carry_the_trace_have_a_deadline_and_get_through_after_an_outage() {
        use tokio::net::TcpListener;
        use tokio_util::sync::CancellationToken;

        use crate::dev::tickets::TicketStandIn;

        const WITHIN: Duration = Duration::from_secs(10);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address").to_string();
        let transport = GrpcTransport::new(&address, WITHIN).expect("an address");
        let trace = TraceContext { traceparent: Some("00-1".to_owned()), ..TraceContext::default() };

        // Nobody answers yet.
        let before = std::time::Instant::now();
        let error = transport.look("t", &trace, Duration::from_millis(200)).await.expect_err("no answer");
        assert!(error.silent && before.elapsed() < WITHIN / 2, "{error:?} {:?}", before.elapsed());

        let service = TicketStandIn::new();
        service.know("t", "PENDING");
        tokio::spawn(service.serve_grpc(listener, CancellationToken::new()));
        let mut update = StatusUpdate {
            ticket_id: "t".to_owned(),
            status: ticket_workflows::ServiceStatus::Failed,
            error_message: Some("é".repeat(4_000)),
            actual_duration_ms: None,
            since_ms: 0,
            unknown_after_ms: 0,
        };
        let noted = transport.set(&update, &trace, WITHIN).await.expect("an answer");
        assert!(matches!(noted, Answer::Good(Some(status)) if status == "FAILED"));
        assert_eq!(service.updates("t")[0]["error_message"].as_str().expect("a text").len(), 4_000);
        let looked = transport.look("t", &trace, WITHIN).await.expect("an answer");
        assert!(matches!(looked, Answer::Good(Some(status)) if status == "FAILED"));
        // The call that nobody waits for any more may have come through too.
        let traces = service.traceparents("t");
        assert!(traces.len() >= 2 && traces.iter().all(|trace| trace == "00-1"), "{traces:?}");
        update.ticket_id = "unknown".to_owned();
        assert!(matches!(transport.set(&update, &trace, WITHIN).await, Ok(Answer::UnknownTicket)));
        assert!(matches!(transport.look("unknown", &trace, WITHIN).await, Ok(Answer::UnknownTicket)));
        service.set_unavailable(true);
        assert!(transport.look("t", &trace, WITHIN).await.is_err_and(|error| error.silent));
        service.set_unavailable(false);
        assert!(transport.look("t", &trace, WITHIN).await.is_ok());
    }
}
