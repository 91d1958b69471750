//! Undos that the harness must not let pass.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use ticket_activities::{
    Completed, Evidence, ExecutionReport, Executor, Failed, FailureClass, Job, Outcome, Recognition, code,
};
use ticket_schemas::{Ticket, compensation_of, decode_json_ticket};

use crate::harness::{Saga, Steps};

/// A provider that holds things, and counts how many it was told to take away.
#[derive(Debug, Default)]
struct Provider {
    things: BTreeSet<String>,
    /// Of which nobody may be given back twice.
    deposit: i32,
}

/// Parameters of these undos: those of `cleanup_test_env`.
#[derive(Debug, Deserialize)]
pub(crate) struct Params {
    resources: Vec<String>,
}

/// How an undo goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Careless,
    Forgetful,
}

pub(crate) struct Undo {
    provider: Arc<Mutex<Provider>>,
    steps: Steps,
    manner: Manner,
}

impl Executor for Undo {
    type Params = Params;

    const RECOGNITION: Recognition = Recognition::ClientToken;

    async fn execute(&self, params: Params, _: Job) -> Outcome {
        for resource in &params.resources {
            let deleted = self.steps.step(async {
                let mut provider = self.provider.lock().expect("the provider");
                let was_there = provider.things.remove(resource);
                if was_there || self.manner == Manner::Careless {
                    provider.deposit += 1;
                }
            });
            if deleted.await.is_err() && self.manner != Manner::Forgetful {
                let class = FailureClass::Retry { after_ms: None };
                return Failed::new(code::EXECUTION_FAILED, class, format!("{resource} was not deleted")).into();
            }
        }
        let evidence = Evidence::new("deletions", format!("{} gone", params.resources.len())).expect("evidence");
        Outcome::Completed(Completed { evidence, report: ExecutionReport::default() })
    }
}

macro_rules! saga {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        pub(crate) struct $name {
            provider: Arc<Mutex<Provider>>,
            steps: Steps,
        }

        impl Saga for $name {
            type Undo = Undo;

            const ACTION: &'static str = "cleanup_test_env";

            fn begin(steps: Steps) -> Self {
                let things = ["job/a", "job/b", "secret/c", "job/of-others"].map(str::to_owned).into();
                Self { provider: Arc::new(Mutex::new(Provider { things, deposit: 0 })), steps }
            }

            fn undo(&self) -> Undo {
                Undo { provider: Arc::clone(&self.provider), steps: self.steps.clone(), manner: Manner::$name }
            }

            fn ticket(&self) -> Ticket {
                ticket()
            }

            fn world(&self) -> String {
                format!("{:?}", self.provider.lock().expect("the provider"))
            }
        }
    };
}

saga! {
    /// Gives the deposit back each time.
    Careless
}
saga! {
    /// Says that it is done whatever the provider answers.
    Forgetful
}

/// The compensation ticket, as a worker makes it.
fn ticket() -> Ticket {
    let original = r#"{"ticket_id":"t-1","task_id":"t","task_type":"TEST","status":"PENDING","dependencies":[],
        "parameters":{"resources":["job/a","job/b","secret/c"]}}"#;
    let original = decode_json_ticket(original.as_bytes()).expect("a ticket");
    compensation_of(&original, "run#1", 1_773_653_400_000).expect("a type with an undo")
}
