//! The registry of executors: task type and provider name to a typed executor, erased.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use ticket_schemas::{ParameterView, TaskType, Ticket};
use ticket_workflows::{Failed, Outcome, code};

use crate::executor::{Executor, Job, Recognition};
use crate::provider::requested_provider;

/// Finds the executor of a ticket. An unknown provider's error lists the known ones.
#[derive(Default)]
pub struct ExecutorRegistry {
    types: BTreeMap<TaskType, Providers>,
}

#[derive(Default)]
struct Providers {
    default: String,
    by_name: BTreeMap<String, Box<dyn ErasedExecutor>>,
}

/// An executor whose parameter type is forgotten.
pub(crate) trait ErasedExecutor: Send + Sync {
    fn recognition(&self) -> Recognition;
    fn is_external(&self) -> bool;
    fn run(&self, job: Job) -> BoxFuture<'_, Outcome>;
}

struct Typed<E>(E);

impl<E: Executor> ErasedExecutor for Typed<E> {
    fn recognition(&self) -> Recognition {
        E::RECOGNITION
    }

    fn is_external(&self) -> bool {
        E::EXTERNAL
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Outcome> {
        let params = ParameterView::new(&job.ticket.parameters).deserialize::<E::Params>();
        Box::pin(async move {
            match params {
                Ok(params) => self.0.execute(params, job).await,
                Err(error) => {
                    Failed::permanent(code::INVALID_PARAMETERS, format!("{error}; correct the ticket")).into()
                }
            }
        })
    }
}

impl ExecutorRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `executor` for tickets of `task_type` that ask for `provider`. The first provider of a type is its
    /// default until [`ExecutorRegistry::default_provider`] names another.
    #[must_use]
    pub fn register(mut self, task_type: TaskType, provider: &str, executor: impl Executor) -> Self {
        let providers = self.types.entry(task_type).or_default();
        if providers.default.is_empty() {
            provider.clone_into(&mut providers.default);
        }
        providers.by_name.insert(provider.to_owned(), Box::new(Typed(executor)));
        self
    }

    /// Names the provider of tickets of `task_type` that ask for none.
    #[must_use]
    pub fn default_provider(mut self, task_type: TaskType, provider: &str) -> Self {
        provider.clone_into(&mut self.types.entry(task_type).or_default().default);
        self
    }

    /// Executors of each task type.
    pub fn counts(&self) -> impl Iterator<Item = (TaskType, u64)> + '_ {
        self.types.iter().map(|(task_type, providers)| (*task_type, providers.by_name.len() as u64))
    }

    /// Providers whose work runs outside of the worker, each with its task type.
    pub fn external(&self) -> impl Iterator<Item = (TaskType, &str)> + '_ {
        self.types.iter().flat_map(|(task_type, providers)| {
            let external = providers.by_name.iter().filter(|(_, executor)| executor.is_external());
            external.map(|(name, _)| (*task_type, name.as_str()))
        })
    }

    /// The executor of `ticket` and its provider's name, or why there is none. Isolation is never lowered: a provider that
    /// is not here is not replaced by another (INC-56, INC-72).
    pub(crate) fn find(&self, ticket: &Ticket) -> Result<(&str, &dyn ErasedExecutor), Failed> {
        let task_type = ticket.task_type;
        let Some(providers) = self.types.get(&task_type).filter(|providers| !providers.by_name.is_empty()) else {
            return Err(Failed::permanent(
                code::EXECUTOR_NOT_AVAILABLE,
                format!(
                    "this worker has no executor for {task_type} tickets; run the ticket on a worker version that has one"
                ),
            ));
        };
        let name = requested_provider(ticket)
            .map_err(|error| Failed::permanent(code::INVALID_PARAMETERS, format!("{error}; correct the ticket")))?
            .unwrap_or_else(|| providers.default.clone());
        let known = || providers.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        providers.by_name.get_key_value(&name).map(|(name, executor)| (name.as_str(), executor.as_ref())).ok_or_else(
            || {
                Failed::permanent(
                    code::PROVIDER_NOT_AVAILABLE,
                    format!(
                        "{task_type} provider {name:?} is not available on this worker (available: {}); \
                     the ticket was not run elsewhere. configure the provider or name another",
                        known()
                    ),
                )
            },
        )
    }
}
