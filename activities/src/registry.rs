//! The registry of executors: task type and provider name to a typed executor, erased; and which others may do its work.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use ticket_schemas::{ParameterView, TaskType, Ticket};
use ticket_workflows::{Failed, Outcome, code};

use crate::executor::{Executor, Job, Recognition};
use crate::provider::{GENERATED, requested_provider};

/// Finds the executor of a ticket. An unknown provider's error lists the known ones.
#[derive(Default)]
pub struct ExecutorRegistry {
    types: BTreeMap<TaskType, Providers>,
}

#[derive(Default)]
struct Providers {
    default: Option<String>,
    by_name: BTreeMap<String, Box<dyn ErasedExecutor>>,
    fallbacks: Vec<String>,
}

/// An executor, by the name of its provider.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) provider: &'a str,
    pub(crate) executor: &'a dyn ErasedExecutor,
}

/// Who does a ticket's work.
pub(crate) struct Choices<'a> {
    /// The provider that the ticket asks for, or its type's default.
    pub(crate) wanted: String,
    /// In this order: the wanted one, if it is here, and those that may take over.
    pub(crate) candidates: Vec<Choice<'a>>,
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
    /// default until [`ExecutorRegistry::default_provider`] names another. COMPENSATE has none: its provider is the action, and
    /// none stands for another.
    #[must_use]
    pub fn register(mut self, task_type: TaskType, provider: &str, executor: impl Executor) -> Self {
        let providers = self.types.entry(task_type).or_default();
        if providers.default.is_none() && task_type != TaskType::Compensate {
            providers.default = Some(provider.to_owned());
        }
        providers.by_name.insert(provider.to_owned(), Box::new(Typed(executor)));
        self
    }

    /// Names the provider of tickets of `task_type` that ask for none.
    #[must_use]
    pub fn default_provider(mut self, task_type: TaskType, provider: &str) -> Self {
        self.types.entry(task_type).or_default().default = Some(provider.to_owned());
        self
    }

    /// Names the providers that may take over, in this order: from one that is not here, and from one whose infrastructure has
    /// failed before anything was begun. Those after the wanted one may; all of them, where it is none of them.
    #[must_use]
    pub fn fall_back_to(mut self, task_type: TaskType, providers: &[String]) -> Self {
        providers.clone_into(&mut self.types.entry(task_type).or_default().fallbacks);
        self
    }

    /// Whether an executor of this type is registered.
    #[must_use]
    pub fn has(&self, task_type: TaskType) -> bool {
        self.types.get(&task_type).is_some_and(|providers| !providers.by_name.is_empty())
    }

    /// Executors of each task type.
    pub fn counts(&self) -> impl Iterator<Item = (TaskType, u64)> + '_ {
        self.types.iter().map(|(task_type, providers)| (*task_type, providers.by_name.len() as u64))
    }

    /// Names of the providers of `task_type`, in alphabetical order.
    pub fn providers(&self, task_type: TaskType) -> impl Iterator<Item = &str> + '_ {
        self.types.get(&task_type).into_iter().flat_map(|providers| providers.by_name.keys().map(String::as_str))
    }

    /// Providers whose work runs outside of the worker, each with its task type.
    pub fn external(&self) -> impl Iterator<Item = (TaskType, &str)> + '_ {
        self.types.iter().flat_map(|(task_type, providers)| {
            let external = providers.by_name.iter().filter(|(_, executor)| executor.is_external());
            external.map(|(name, _)| (*task_type, name.as_str()))
        })
    }

    /// The executors of `ticket`, or why there is none. Isolation is never lowered silently: a provider that is not here is
    /// replaced by none but those that were named for it (INC-56, INC-72).
    pub(crate) fn find(&self, ticket: &Ticket) -> Result<Choices<'_>, Failed> {
        let task_type = ticket.task_type;
        let Some(providers) = self.types.get(&task_type).filter(|providers| !providers.by_name.is_empty()) else {
            return Err(Failed::permanent(
                code::EXECUTOR_NOT_AVAILABLE,
                format!(
                    "this worker has no executor for {task_type} tickets; run the ticket on a worker version that has one"
                ),
            ));
        };
        let known = || providers.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let wanted = requested_provider(ticket)
            .map_err(|error| Failed::permanent(code::INVALID_PARAMETERS, format!("{error}; correct the ticket")))?
            .or_else(|| providers.default.clone())
            .ok_or_else(|| {
                let message =
                    format!("parameter \"action\" is missing, and none is done unasked; name one of: {}", known());
                Failed::permanent(code::INVALID_PARAMETERS, message)
            })?;
        let candidates = providers.candidates(&wanted);
        if candidates.is_empty() {
            return Err(Failed::permanent(
                code::PROVIDER_NOT_AVAILABLE,
                format!(
                    "{task_type} provider {wanted:?} is not available on this worker (available: {}); \
                     the ticket was not run elsewhere. configure the provider or name another",
                    known()
                ),
            ));
        }
        Ok(Choices { wanted, candidates })
    }
}

impl Providers {
    fn candidates(&self, wanted: &str) -> Vec<Choice<'_>> {
        let fallbacks = match self.fallbacks.iter().position(|name| name == wanted) {
            Some(at) => &self.fallbacks[at + 1..],
            // Whoever wants generated code has no use for a command.
            None if wanted == GENERATED => &[],
            None => &self.fallbacks[..],
        };
        std::iter::once(wanted)
            .chain(fallbacks.iter().map(String::as_str))
            .filter_map(|name| self.by_name.get_key_value(name))
            .map(|(provider, executor)| Choice { provider, executor: executor.as_ref() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use ticket_schemas::decode_json_ticket;

    use super::*;
    use crate::execute::Noop;

    fn candidates(chain: &[&str], parameters: serde_json::Value) -> Result<Vec<String>, String> {
        let chain: Vec<String> = chain.iter().map(|name| (*name).to_owned()).collect();
        let registry = ["docker", "local", "simulation"]
            .into_iter()
            .fold(ExecutorRegistry::new(), |registry, name| registry.register(TaskType::Execute, name, Noop))
            .default_provider(TaskType::Execute, "local")
            .fall_back_to(TaskType::Execute, &chain);
        let ticket = json!({
            "ticket_id": "t", "task_id": "a", "task_type": "EXECUTE", "status": "PENDING", "dependencies": [],
            "parameters": parameters,
        });
        let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
        let found = registry.find(&ticket).map_err(|failed| failed.code)?;
        Ok(found.candidates.iter().map(|candidate| candidate.provider.to_owned()).collect())
    }

    #[test]
    fn inc_72_without_a_chain_the_wanted_runtime_is_the_only_one() {
        assert_eq!(candidates(&[], json!({})), Ok(vec!["local".to_owned()]));
        assert_eq!(candidates(&[], json!({ "runtime": "docker" })), Ok(vec!["docker".to_owned()]));
        assert_eq!(candidates(&[], json!({ "runtime": "k8s" })), Err(code::PROVIDER_NOT_AVAILABLE.to_owned()));
    }

    #[test]
    fn an_action_is_named_or_nothing_is_undone() {
        let registry = ["generic_cleanup", "rollback_execution"]
            .into_iter()
            .fold(ExecutorRegistry::new(), |registry, action| registry.register(TaskType::Compensate, action, Noop));
        let find = |parameters: serde_json::Value| {
            let ticket = json!({
                "ticket_id": "t", "task_id": "a", "task_type": "COMPENSATE", "status": "PENDING", "dependencies": [],
                "parameters": parameters,
            });
            let ticket = decode_json_ticket(ticket.to_string().as_bytes()).expect("a ticket");
            registry.find(&ticket).map(|found| found.wanted).map_err(|failed| (failed.code, failed.message))
        };
        assert_eq!(find(json!({ "action": "rollback_execution" })), Ok("rollback_execution".to_owned()));
        for (parameters, expected) in [
            (json!({}), code::INVALID_PARAMETERS),
            (json!({ "action": " " }), code::INVALID_PARAMETERS),
            (json!({ "action": "delete_artifacts" }), code::PROVIDER_NOT_AVAILABLE),
            (json!({ "action": "rm -rf /" }), code::PROVIDER_NOT_AVAILABLE),
        ] {
            let (code, message) = find(parameters.clone()).expect_err("nothing");
            assert_eq!(code, expected, "{parameters}");
            assert!(message.contains("generic_cleanup, rollback_execution"), "the known ones: {message}");
        }
    }

    #[test]
    fn those_after_the_wanted_one_may_take_over_in_their_order() {
        let chain = ["k8s", "docker", "local", "simulation"];
        for (parameters, expected) in [
            (json!({ "runtime": "k8s" }), &["docker", "local", "simulation"][..]),
            (json!({ "runtime": "docker" }), &["docker", "local", "simulation"]),
            (json!({}), &["local", "simulation"]),
            (json!({ "runtime": "simulation" }), &["simulation"]),
            // None of them: all of them.
            (json!({ "runtime": "lambda" }), &["docker", "local", "simulation"]),
        ] {
            assert_eq!(candidates(&chain, parameters.clone()).expect("some"), expected, "{parameters}");
        }
        assert!(candidates(&chain, json!({ "template_id": "t" })).is_err(), "nothing else makes code of a template");
    }
}
