//! The Execution Ticket Service, and how reports are owed.

use std::time::Duration;

use ticket_workflows::ReportingPolicy;

use super::reader::{Reader, millis};

/// Settings of the ticket service's client and of reporting.
#[derive(Debug, Clone)]
pub struct TicketServiceConfig {
    /// `EXECUTION_TICKET_SERVICE_URL`; `None`: there is none. The platform's defaults name a port that the service does not
    /// listen on (INC-32), so there is no default here.
    pub url: Option<String>,
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
            unknown_after_ms: self.url.as_ref().map(|_| millis(self.unknown_after)),
        }
    }
}
