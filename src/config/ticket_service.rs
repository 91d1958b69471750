//! The Execution Ticket Service, and how reports are owed.

use std::time::Duration;

use ticket_workflows::ReportingPolicy;

use super::near::is_near;
use super::outgoing::PeerAccess;
use super::reader::{Reader, millis};

/// Settings of the ticket service's client and of reporting.
#[derive(Debug, Clone)]
pub struct TicketServiceConfig {
    /// `EXECUTION_TICKET_SERVICE_URL`; `None`: there is none. The platform's defaults name a port that the service does not
    /// listen on (INC-32), so there is no default here.
    pub url: Option<String>,
    /// `EXECUTION_TICKET_SERVICE_GRPC_ADDRESS`: host:port; with it statuses and look-ups go over gRPC.
    pub grpc_address: Option<String>,
    /// How it is reached over HTTP.
    pub peer: PeerAccess,
    /// `TICKET_API_TIMEOUT_SECONDS`: longest call.
    pub timeout: Duration,
    /// `ETS_UNKNOWN_AFTER_SECONDS`: how long the service may not know a ticket.
    pub unknown_after: Duration,
    /// `REPORT_STUCK_AFTER_SECONDS`: when a report that is owed counts as stuck.
    pub stuck_after: Duration,
}

impl TicketServiceConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            url: reader.url(
                "EXECUTION_TICKET_SERVICE_URL",
                "base URL of the Execution Ticket Service; unset: statuses are not reported",
            ),
            grpc_address: grpc_address(reader),
            peer: reader.peer_access(None),
            timeout: reader.seconds("TICKET_API_TIMEOUT_SECONDS", 10.0, "longest call to the Execution Ticket Service"),
            unknown_after: reader.seconds(
                "ETS_UNKNOWN_AFTER_SECONDS",
                600.0,
                "how long the Execution Ticket Service may not know a ticket before it is told no more; added by this product",
            ),
            stuck_after: reader.seconds(
                "REPORT_STUCK_AFTER_SECONDS",
                600.0,
                "how long a report may be owed before the ticket shows it as stuck; added by this product",
            ),
        }
    }

    /// What tickets are held to.
    pub(super) fn policy(&self) -> ReportingPolicy {
        ReportingPolicy {
            stuck_after_ms: millis(self.stuck_after),
            unknown_after_ms: self.url.as_ref().or(self.grpc_address.as_ref()).map(|_| millis(self.unknown_after)),
        }
    }
}

fn grpc_address(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "EXECUTION_TICKET_SERVICE_GRPC_ADDRESS";
    let address = reader.optional(
        NAME,
        "host:port of the Execution Ticket Service's gRPC; statuses and look-ups then go there; added by this product",
    )?;
    let url = reqwest::Url::parse(&format!("http://{address}"));
    let host = url.as_ref().ok().and_then(|url| url.host_str()).unwrap_or_default().trim_matches(['[', ']']);
    // A URL leaves out the port of its scheme.
    let named = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host.is_empty() || !named || address.contains(['/', '@', '?', '#']) {
        reader.error(format!("{NAME}={address:?}: expected host:port"));
    } else if !is_near(host) {
        reader.warn(format!(
            "the Execution Ticket Service at {address} is called in plaintext, beyond this machine and the cluster; it takes no TLS"
        ));
    }
    Some(address)
}
