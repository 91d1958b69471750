//! Every side effect of a ticket.
//!
//! Owns the executors (one folder per task type, one file per provider), the registry that finds them, the activities
//! that call them, and the ports to what they need of the platform. Never decides about retries, deadlines or the
//! outcome of a ticket: that is workflow logic. `worker-agents` implements the ports and injects them.

mod attempt;
mod border;
mod clock;
pub mod compensate;
mod compensation;
mod dependencies;
mod drain;
pub mod execute;
mod executor;
pub mod external;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod fallback;
pub mod logs;
mod outputs;
mod ports;
mod provider;
mod registry;
pub mod sandbox;
mod stop;
pub mod supervisor;
mod temporal;
mod ticket_activities;
mod ticket_service;
pub mod trace;

pub use border::{border, border_call};
pub use clock::now_ms;
pub use drain::Drain;
pub use executor::{Executor, Job, Progress, Recognition};
pub use ports::{
    AttemptEnd, CompensationError, LogName, LogSink, LogSinkError, LogWriter, Observer, OpenLog, ProviderChange,
    PublishError, Registrations, ResultSink, TicketSink, Tracer, WorkerSecrets,
};
pub use provider::{NoProviderName, requested_provider};
pub use registry::ExecutorRegistry;
pub use ticket_activities::{Activities, ActivityParts};
pub use ticket_service::{Created, TicketService, TicketServiceError};
pub use ticket_workflows::{Completed, Evidence, ExecutionReport, ExternalState, Failed, FailureClass, Outcome, code};
