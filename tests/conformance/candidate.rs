//! What a provider brings to the suite.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use ticket_activities::external::{Endpoint, EndpointLimits, External, Patience, Provider};
use ticket_activities::{Executor as _, Job, Outcome, Recognition};
use ticket_schemas::{ParameterView, TaskType};

use crate::server::{Answer, Request};

/// The steps of the protocol, as requests show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Prepare,
    LookUp,
    Create,
    /// Of providers that begin what they created by another request.
    Start,
    Watch,
    Stop,
    Collect,
}

/// One worker's driver of a provider, whose attempts share an endpoint.
pub(crate) type Driver = Arc<dyn Fn(Job) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// One provider.
pub(crate) trait Candidate: Send + Sync {
    fn task_type(&self) -> TaskType;
    /// Its name in the registry.
    fn provider(&self) -> &'static str;
    fn recognition(&self) -> Recognition;
    /// Whether it hears a `Retry-After`.
    fn hears_retry_after(&self) -> bool;
    /// Whether its API can end work.
    fn ends_work(&self) -> bool {
        true
    }
    /// Whether its create is answered when the work has ended, and that answer is given to nobody else.
    fn answers_at_the_end(&self) -> bool {
        false
    }
    /// Whether the next worker knows the work again whose worker was lost at `step`. `told`: it reads what the last heartbeat said.
    fn knows_again(&self, step: Step, told: bool) -> bool {
        self.recognition() != Recognition::None || (told && step > Step::Create)
    }
    /// The steps at which it makes requests, each once at least, when all goes well.
    fn steps(&self) -> &'static [Step];
    /// Parameters of a ticket.
    fn parameters(&self) -> Value;
    /// A fake of its API, without any work.
    fn peer(&self) -> Arc<dyn Peer>;
    /// A driver for the API at `address` (`127.0.0.1:1234`), whose endpoint is spared within `limits`.
    fn driver(&self, address: &str, patience: Patience, limits: EndpointLimits) -> Driver;
}

/// A fake of a provider's API.
pub(crate) trait Peer: Send + Sync {
    /// What a request is for; `None`: for nothing that the suite looks at.
    fn step(&self, request: &Request) -> Option<Step>;
    /// Does what is asked for, as the real API does.
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Answer>;
    /// An error with this status, as the real API says it.
    fn error(&self, status: u16) -> Answer {
        Answer::json(status, &json!({ "message": "scripted", "detail": "scripted" }))
    }
    /// How often work was created, by key.
    fn creates(&self) -> BTreeMap<String, usize>;
    /// How often work began to run, by key.
    fn begins(&self) -> BTreeMap<String, usize>;
    /// How much work runs.
    fn running(&self) -> usize;
    /// How often somebody asked for an end of work.
    fn stops(&self) -> usize;
    /// All work that runs ends with this code, and so does what begins later.
    fn end_all(&self, exit_code: i32);
    /// All work is gone.
    fn vanish(&self);
    /// The fake's clock is ahead by so many seconds.
    fn set_clock(&self, ahead: i64);
}

/// A driver made of a provider.
pub(crate) fn driver<P: Provider>(provider: P, patience: Patience, limits: EndpointLimits) -> Driver {
    let endpoint = Endpoint::new(P::NAME, limits, Arc::new(|_| ()));
    let external = Arc::new(External::new(Arc::new(provider)).with_patience(patience).at(endpoint));
    Arc::new(move |job: Job| {
        let external = Arc::clone(&external);
        Box::pin(async move {
            let params = ParameterView::new(&job.ticket.parameters).deserialize().expect("parameters of the suite");
            external.execute(params, job).await
        })
    })
}
