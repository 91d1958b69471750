//! A provider in memory, whose faults are scripted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use ticket_workflows::{Evidence, ExecutionReport, Failed, code};

use crate::executor::{Job, Recognition};
use crate::external::{External, Fault, Key, Leftover, Plan, Provider};
use crate::logs::{Log, Stream};

/// Where a fault is scripted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Prepare,
    LookUp,
    Create,
    Watch,
    Follow,
    Stop,
    Collect,
    Leftovers,
    CleanUp,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub(super) enum Scripted {
    /// The provider does nothing and says so.
    Untaken(Fault),
    /// The provider does what was asked for, and the caller hears this.
    Taken(Fault),
    /// The provider does what was asked for, and answers after this time.
    Slow(Duration),
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Work by key: its exit code, once it has ended.
    pub(super) works: BTreeMap<String, Option<i32>>,
    /// Creates that were taken, by key.
    pub(super) creates: BTreeMap<String, u32>,
    /// Work that was stopped.
    pub(super) stopped: Vec<String>,
    /// Whose work is there.
    pub(super) leftovers: Vec<Leftover<String>>,
    pub(super) removed: Vec<String>,
    /// What all work has written.
    pub(super) written: Vec<String>,
    script: BTreeMap<Step, VecDeque<Scripted>>,
}

/// Exit code of work that was stopped.
const STOPPED: i32 = 143;

pub(super) const NONE: u8 = 0;
pub(super) const TOKEN: u8 = 1;
pub(super) const LOOKUP: u8 = 2;
/// As [`NONE`], by creates that go on without an answer.
pub(super) const ONE_CALL: u8 = 3;

/// A provider that recognises work as `R` says.
#[derive(Debug, Default)]
pub(super) struct Fake<const R: u8>(pub(super) Arc<Mutex<State>>);

#[derive(Debug, Deserialize)]
pub(super) struct NoParams {}

impl<const R: u8> Fake<R> {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with it")
    }

    pub(super) fn script(&self, step: Step, what: impl IntoIterator<Item = Scripted>) {
        self.state().script.entry(step).or_default().extend(what);
    }

    /// How many calls of this kind there may be before the script is at its end.
    pub(super) fn left(&self, step: Step) -> usize {
        self.state().script.get(&step).map_or(0, VecDeque::len)
    }

    /// The work that there is ends with this exit code.
    pub(super) fn end_all(&self, exit_code: i32) {
        self.state().works.values_mut().for_each(|ended| *ended = Some(exit_code));
    }

    pub(super) fn creates(&self) -> Vec<u32> {
        self.state().creates.values().copied().collect()
    }

    /// Another worker's driver for the same provider.
    pub(super) fn driver(&self) -> External<Self> {
        External::new(Arc::new(Self(Arc::clone(&self.0))))
    }

    async fn call<T>(&self, step: Step, take: impl FnOnce(&mut State) -> Result<T, Fault>) -> Result<T, Fault> {
        let scripted = self.state().script.get_mut(&step).and_then(VecDeque::pop_front);
        match scripted {
            None => take(&mut self.state()),
            Some(Scripted::Untaken(fault)) => Err(fault),
            Some(Scripted::Taken(fault)) => {
                let _ = take(&mut self.state());
                Err(fault)
            }
            Some(Scripted::Slow(time)) => {
                let answer = take(&mut self.state());
                tokio::time::sleep(time).await;
                answer
            }
        }
    }
}

impl<const R: u8> Provider for Fake<R> {
    type Params = NoParams;
    type Spec = ();
    type Handle = String;
    type End = i32;
    type Output = String;

    const NAME: &'static str = "fake";
    const RECOGNITION: Recognition = match R {
        NONE | ONE_CALL => Recognition::None,
        TOKEN => Recognition::ClientToken,
        _ => Recognition::Lookup,
    };
    const ONE_CALL: bool = R == ONE_CALL;

    fn plan(&self, _: NoParams, _: &Job) -> Result<Plan<()>, Failed> {
        Ok(Plan { spec: (), limit: Duration::from_secs(30) })
    }

    async fn prepare(&self, (): &mut ()) -> Result<(), Fault> {
        self.call(Step::Prepare, |_| Ok(())).await
    }

    async fn look_up(&self, key: &Key, (): &()) -> Result<Option<String>, Fault> {
        assert_eq!(R, LOOKUP, "only what can be looked up is");
        self.call(Step::LookUp, |state| Ok(state.works.contains_key(key.as_str()).then(|| key.to_string()))).await
    }

    async fn create(&self, key: &Key, (): &()) -> Result<String, Fault> {
        self.call(Step::Create, |state| {
            // Without a key or token each create is work of its own.
            let key = if Self::RECOGNITION == Recognition::None {
                format!("{key}-{}", state.works.len())
            } else {
                key.to_string()
            };
            if !state.works.contains_key(&key) {
                *state.creates.entry(key.clone()).or_default() += 1;
                state.works.insert(key.clone(), None);
            }
            Ok(key)
        })
        .await
    }

    fn has_answered(&self, _: &String) -> bool {
        !Self::ONE_CALL
    }

    async fn watch(&self, handle: &String) -> Result<i32, Fault> {
        self.call(Step::Watch, |_| Ok(())).await?;
        loop {
            match self.state().works.get(handle) {
                None => return Err(Fault::Vanished { cause: "no such work".to_owned() }),
                Some(Some(exit_code)) => return Ok(*exit_code),
                Some(None) => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn follow(&self, _: &String, log: &Log) -> Result<(), Fault> {
        let from = log.resume().await.as_u64().unwrap_or_default();
        let written = self.call(Step::Follow, |state| Ok(state.written.clone())).await?;
        for (at, line) in (1..).zip(written).skip(usize::try_from(from).expect("few lines")) {
            log.write(Stream::Stdout, line.as_bytes()).await;
            log.reached(json!(at));
        }
        Ok(())
    }

    async fn stop(&self, handle: &String) -> Result<Option<i32>, Fault> {
        self.call(Step::Stop, |state| {
            if Self::ONE_CALL {
                let ended = state.works.get(handle).copied().flatten();
                return ended.map(Some).ok_or_else(|| Fault::Unsupported { cause: "it ends nothing".to_owned() });
            }
            state.stopped.push(handle.clone());
            match state.works.get_mut(handle) {
                None => Err(Fault::Vanished { cause: "no such work".to_owned() }),
                Some(ended) => Ok(Some(*ended.get_or_insert(STOPPED)).filter(|end| *end != STOPPED)),
            }
        })
        .await
    }

    async fn collect(&self, handle: &String) -> Result<String, Fault> {
        self.call(Step::Collect, |_| Ok(format!("output of {handle}"))).await
    }

    fn verdict(&self, handle: &String, end: &i32, _: Option<&String>) -> Result<Evidence, Failed> {
        match end {
            0 => Ok(Evidence::new(handle.as_str(), "exit code 0").expect("evidence")),
            end => Err(Failed::permanent(code::EXECUTION_FAILED, format!("exit code {end}"))),
        }
    }

    fn report(&self, (): &(), _: &String, end: Option<&i32>, output: Option<String>) -> ExecutionReport {
        let mut report = ExecutionReport::default();
        report.output.insert("exit_code".to_owned(), json!(end));
        report.output.insert("parts".to_owned(), json!([{ "text": output }]));
        report.output.insert("stdout".to_owned(), json!(output));
        report
    }

    async fn leftovers(&self) -> Result<Vec<Leftover<String>>, Fault> {
        self.call(Step::Leftovers, |state| Ok(state.leftovers.clone())).await
    }

    async fn clean_up(&self, handle: &String) -> Result<(), Fault> {
        self.call(Step::CleanUp, |state| {
            state.leftovers.retain(|leftover| leftover.handle != *handle);
            state.removed.push(handle.clone());
            Ok(())
        })
        .await
    }
}

pub(super) fn lost() -> Fault {
    Fault::Lost { cause: "connection reset".to_owned() }
}

pub(super) fn throttled(seconds: u64) -> Fault {
    Fault::Deferred { cause: "429".to_owned(), after: Some(Duration::from_secs(seconds)) }
}

/// Every fault that may pass.
pub(super) fn passing() -> Vec<Fault> {
    vec![
        lost(),
        throttled(2),
        Fault::Unavailable { cause: "connection refused".to_owned(), after: None },
        Fault::Errored { cause: "500".to_owned() },
        Fault::Malformed { cause: "<html>".to_owned() },
        Fault::SetupRefused { cause: "403".to_owned() },
    ]
}
