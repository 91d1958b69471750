//! Code Forge as a provider of external work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ticket_workflows::{Evidence, ExecutionReport, Failed, code};

use super::api::{CodeForge, Generation, GenerationRequest, RequestId, Stage};
use super::params::GenerationParams;
use crate::clock::now_ms;
use crate::executor::{Job, Recognition};
use crate::external::{Fault, Key, Plan, Provider, said};
use crate::provider::GENERATED;

/// Most bytes of artifacts in a result, as JSON. A result has room for 1,000,000 bytes in all.
const MAX_ARTIFACTS: usize = 256 * 1024;

/// Times of generations.
#[derive(Debug, Clone, Copy)]
pub struct GenerationTimes {
    /// Of a generation whose ticket names none.
    pub limit: Duration,
    /// Between two looks at a generation.
    pub poll: Duration,
    /// How long Code Forge may say that it does not know a request which it has just taken: it stores it beside its answer.
    pub unknown_for: Duration,
}

/// Has code made by Code Forge.
pub struct CodeForgeRuntime {
    forge: Arc<dyn CodeForge>,
    times: GenerationTimes,
}

/// A generation that Code Forge was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requested {
    request_id: RequestId,
    /// In milliseconds since the epoch, by the clock of the worker that asked.
    at_ms: i64,
}

impl CodeForgeRuntime {
    /// Asks `forge`.
    #[must_use]
    pub fn new(forge: Arc<dyn CodeForge>, times: GenerationTimes) -> Self {
        Self { forge, times }
    }

    /// The generation, if it has ended.
    async fn ended(&self, requested: &Requested) -> Result<Option<Generation>, Fault> {
        match self.forge.generation(&requested.request_id).await {
            Ok(generation) if generation.request_id != requested.request_id => Err(Fault::Malformed {
                cause: format!(
                    "asked for request {}, Code Forge told of {}",
                    requested.request_id, generation.request_id
                ),
            }),
            Ok(generation) => Ok(generation.status.is_end().then_some(generation)),
            Err(Fault::Vanished { cause }) if self.is_new(requested) => {
                Err(Fault::Lost { cause: format!("{cause}; it has taken this request a moment ago") })
            }
            Err(Fault::Vanished { cause }) => {
                Err(Fault::Vanished { cause: format!("{cause} (request {})", requested.request_id) })
            }
            Err(fault) => Err(fault),
        }
    }

    fn is_new(&self, requested: &Requested) -> bool {
        let age = u64::try_from(now_ms().saturating_sub(requested.at_ms)).unwrap_or(0);
        Duration::from_millis(age) < self.times.unknown_for
    }
}

impl Provider for CodeForgeRuntime {
    type Params = GenerationParams;
    type Spec = GenerationRequest;
    type Handle = Requested;
    type End = Generation;
    /// What it made is told with its end.
    type Output = ();

    const NAME: &'static str = GENERATED;
    /// The API takes no key, and the ids that it gives are found nowhere but in its answer.
    const RECOGNITION: Recognition = Recognition::None;

    fn plan(&self, params: GenerationParams, job: &Job) -> Result<Plan<GenerationRequest>, Failed> {
        let (spec, limit) = params.check(&job.ticket, self.times.limit)?;
        Ok(Plan { spec, limit })
    }

    async fn look_up(&self, _: &Key, _: &GenerationRequest) -> Result<Option<Requested>, Fault> {
        Err(Fault::Unsupported { cause: "Code Forge has no call that finds a request".to_owned() })
    }

    async fn create(&self, _: &Key, request: &GenerationRequest) -> Result<Requested, Fault> {
        let request_id = self.forge.generate(request).await?;
        Ok(Requested { request_id, at_ms: now_ms() })
    }

    async fn watch(&self, requested: &Requested) -> Result<Generation, Fault> {
        loop {
            if let Some(generation) = self.ended(requested).await? {
                return Ok(generation);
            }
            tokio::time::sleep(self.times.poll).await;
        }
    }

    /// Only what has ended by itself is known to have stopped.
    async fn stop(&self, requested: &Requested) -> Result<Option<Generation>, Fault> {
        let id = &requested.request_id;
        match self.ended(requested).await {
            Ok(Some(generation)) => Ok(Some(generation)),
            Ok(None) => Err(Fault::Unsupported {
                cause: format!("Code Forge has no call that ends a generation, and request {id} has not ended"),
            }),
            // What it forgets is the request, which says nothing of the generation.
            Err(Fault::Vanished { cause }) => {
                Err(Fault::Unsupported { cause: format!("{cause}; nobody can say how it stands") })
            }
            Err(fault) => Err(fault),
        }
    }

    async fn collect(&self, _: &Requested) -> Result<(), Fault> {
        Ok(())
    }

    fn verdict(&self, requested: &Requested, end: &Generation, _: Option<&()>) -> Result<Evidence, Failed> {
        let made = end.artifacts.as_ref().map_or(0, Vec::len);
        let ran = format!("Code Forge request {}", requested.request_id);
        let evidence = Evidence::new(ran, format!("{}, artifacts: {made}", end.status.as_str()))
            .map_err(|error| Failed::permanent(code::INTERNAL, error.to_string()))?;
        let message = match end.status {
            Stage::Completed if made > 0 => return Ok(evidence),
            // What names nothing that it made has shown nothing.
            Stage::Completed => {
                "Code Forge completed the generation and names no artifact; look at its pipeline".to_owned()
            }
            _ => {
                format!("the generation failed: {}; correct the template or its parameters", reason(end.error.as_ref()))
            }
        };
        Err(Failed { evidence: Some(evidence), ..Failed::permanent(code::EXECUTION_FAILED, message) })
    }

    fn report(
        &self,
        _: &GenerationRequest,
        requested: &Requested,
        end: Option<&Generation>,
        _: Option<()>,
    ) -> ExecutionReport {
        let mut metadata = BTreeMap::from([
            ("executor".to_owned(), json!("ExecuteExecutor")),
            ("runtime".to_owned(), json!(Self::NAME)),
        ]);
        let made = end.and_then(|end| end.artifacts.as_deref());
        let artifacts = made.map(|made| within(made, MAX_ARTIFACTS));
        if let (Some(made), Some(kept)) = (made, artifacts)
            && kept.len() < made.len()
        {
            metadata.insert("artifacts_total".to_owned(), json!(made.len()));
            metadata.insert("artifacts_truncated".to_owned(), json!(true));
        }
        let output = BTreeMap::from([
            ("request_id".to_owned(), json!(requested.request_id)),
            ("artifacts".to_owned(), json!(artifacts)),
            ("pipeline_id".to_owned(), json!(end.and_then(|end| end.pipeline_id.as_ref()))),
        ]);
        let logs = end.map(|end| format!("generation {}", end.status.as_str())).into_iter().collect();
        ExecutionReport { output, metadata, logs }
    }
}

/// Why a generation failed, in Code Forge's words.
fn reason(error: Option<&Value>) -> String {
    match error {
        None | Some(Value::Null) => "Code Forge gives no reason".to_owned(),
        Some(Value::String(text)) => said(text),
        Some(other) => said(&other.to_string()),
    }
}

/// As many of `artifacts` as have room.
fn within(artifacts: &[Value], most: usize) -> &[Value] {
    let mut bytes = 0;
    let fitting = artifacts.iter().take_while(|artifact| {
        bytes += artifact.to_string().len();
        bytes <= most
    });
    &artifacts[..fitting.count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1ace7ddd-6254-5e5c-a9ce-6d7b89a8129f";

    fn requested(at_ms: i64) -> Requested {
        Requested { request_id: RequestId::try_from(ID.to_owned()).expect("an id"), at_ms }
    }

    fn sample() -> Generation {
        let text = include_str!("../../../../tests/samples/http/code-forge/generate-completed.json");
        serde_json::from_str(text).expect("a generation")
    }

    /// Says the same each time.
    struct Saying(Result<Generation, Fault>);

    impl CodeForge for Saying {
        fn generate<'a>(
            &'a self,
            _: &'a GenerationRequest,
        ) -> futures::future::BoxFuture<'a, Result<RequestId, Fault>> {
            Box::pin(std::future::ready(Ok(requested(0).request_id)))
        }

        fn generation<'a>(&'a self, _: &'a RequestId) -> futures::future::BoxFuture<'a, Result<Generation, Fault>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    fn runtime(said: Result<Generation, Fault>) -> CodeForgeRuntime {
        let second = Duration::from_secs(1);
        CodeForgeRuntime::new(
            Arc::new(Saying(said)),
            GenerationTimes { limit: second, poll: second, unknown_for: second },
        )
    }

    fn request() -> GenerationRequest {
        GenerationRequest {
            ticket_id: "t".to_owned(),
            template_id: "fastapi-microservice".to_owned(),
            parameters: BTreeMap::new(),
            target_repo: String::new(),
            branch: "main".to_owned(),
        }
    }

    #[test]
    fn a_completed_generation_has_the_contracts_output_and_says_what_was_made() {
        let (runtime, requested, end) = (runtime(Ok(sample())), requested(0), sample());
        let evidence = runtime.verdict(&requested, &end, Some(&())).expect("completed");
        assert_eq!(evidence.to_string(), format!("Code Forge request {ID} answered completed, artifacts: 1"));
        let report = runtime.report(&request(), &requested, Some(&end), Some(()));
        let keys: Vec<_> = report.output.keys().map(String::as_str).collect();
        assert_eq!(keys, ["artifacts", "pipeline_id", "request_id"]);
        assert_eq!(report.output["request_id"], ID);
        assert_eq!(report.output["pipeline_id"], "f48c9452-e258-5bc3-b254-bd650d4de3fa");
        assert_eq!(report.output["artifacts"], json!(sample().artifacts));
        assert_eq!(
            (&report.metadata["runtime"], report.logs.join("")),
            (&json!("code_forge"), "generation completed".to_owned())
        );
    }

    #[test]
    fn inc_54_what_failed_or_names_nothing_that_it_made_is_a_failure_with_its_reason() {
        let failed = |change: &dyn Fn(&mut Generation)| {
            let mut end = sample();
            change(&mut end);
            runtime(Ok(sample())).verdict(&requested(0), &end, Some(&())).expect_err("a failure")
        };
        let nothing = failed(&|end| end.artifacts = Some(Vec::new()));
        assert!(nothing.message.contains("names no artifact"), "{nothing:?}");
        failed(&|end| end.artifacts = None);
        for (error, words) in [
            (json!("template\u{1b}[2J is unknown"), "template [2J is unknown"),
            (json!({ "step": "render" }), "render"),
            (Value::Null, "no reason"),
        ] {
            let failed = failed(&|end| {
                end.status = Stage::Failed;
                end.error = Some(error.clone());
            });
            assert!(failed.message.contains(words), "{}", failed.message);
            assert_eq!((failed.code.as_str(), failed.evidence.is_some()), (code::EXECUTION_FAILED, true));
        }
    }

    #[test]
    fn more_artifacts_than_a_result_has_room_for_are_cut_and_counted() {
        let mut end = sample();
        end.artifacts = Some(vec![json!({ "type": "x".repeat(1000) }); 1000]);
        let report = runtime(Ok(sample())).report(&request(), &requested(0), Some(&end), Some(()));
        assert!(report.output["artifacts"].to_string().len() < MAX_ARTIFACTS + 1000);
        assert_eq!(
            (&report.metadata["artifacts_total"], &report.metadata["artifacts_truncated"]),
            (&json!(1000), &json!(true))
        );
        assert_eq!(within(&[json!("long")], 3), &[] as &[Value]);
    }

    #[tokio::test]
    async fn a_request_is_unknown_for_a_moment_after_it_was_taken_and_gone_afterwards() {
        let runtime = runtime(Err(Fault::Vanished { cause: "Code Forge answered 404".to_owned() }));
        for (at_ms, is_new) in [(now_ms(), true), (now_ms() + 60_000, true), (now_ms() - 60_000, false)] {
            let fault = runtime.ended(&requested(at_ms)).await.expect_err("not there");
            assert_eq!(matches!(fault, Fault::Lost { .. }), is_new, "{fault:?}");
            assert_eq!(matches!(fault, Fault::Vanished { .. }), !is_new, "{fault:?}");
            assert!(is_new || fault.to_string().contains(ID), "{fault}");
        }
    }

    #[tokio::test]
    async fn the_answer_about_another_request_is_no_answer() {
        let mut other = sample();
        other.request_id = RequestId::try_from("other".to_owned()).expect("an id");
        let fault = runtime(Ok(other)).ended(&requested(0)).await.expect_err("refused");
        assert!(matches!(fault, Fault::Malformed { .. }), "{fault:?}");
    }

    #[tokio::test]
    async fn inc_44_only_what_has_ended_by_itself_is_known_to_have_stopped() {
        assert_eq!(runtime(Ok(sample())).stop(&requested(0)).await, Ok(Some(sample())));
        let mut goes_on = sample();
        goes_on.status = Stage::Processing;
        for said in [Ok(goes_on), Err(Fault::Vanished { cause: "Code Forge answered 404".to_owned() })] {
            let fault = runtime(said).stop(&requested(0)).await.expect_err("not known");
            assert!(matches!(fault, Fault::Unsupported { .. }) && fault.to_string().contains(ID), "{fault:?}");
        }
    }
}
