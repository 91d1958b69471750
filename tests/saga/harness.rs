//! Rehearses an undo: it fails at each of its steps, it is repeated, it is killed between any two; each time it is run again
//! then, and in the end its world must look as after one undisturbed run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use ticket_activities::{Executor, Job, Outcome, Progress, code};
use ticket_schemas::{ParameterView, Ticket};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A compensation with a world of its own.
pub(crate) trait Saga: Send + Sync {
    /// What undoes.
    type Undo: Executor;

    /// The `action` of its tickets.
    const ACTION: &'static str;

    /// A world in which the action that failed has left something behind.
    fn begin(steps: Steps) -> Self;
    /// The undo, in this world. A call that does something is a step: [`Steps::step`].
    fn undo(&self) -> Self::Undo;
    /// The COMPENSATE ticket.
    fn ticket(&self) -> Ticket;
    /// All that can be seen of the world.
    fn world(&self) -> String;
}

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The provider answers with an error and has done nothing, or everything.
    Fail,
    /// The process dies.
    Kill,
}

/// On which side of what the provider does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

#[derive(Debug, Default)]
struct Inner {
    count: AtomicU32,
    killed: Notify,
}

/// The steps of one run. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Steps {
    inner: Arc<Inner>,
    plan: Arc<std::sync::Mutex<Option<(u32, Side, Fault)>>>,
}

/// The provider's answer to a call that failed.
#[derive(Debug)]
pub(crate) struct ProviderFailed;

impl Steps {
    /// One call to the provider, with what it does to the world.
    pub(crate) async fn step<T>(&self, call: impl Future<Output = T>) -> Result<T, ProviderFailed> {
        let number = self.inner.count.fetch_add(1, Ordering::SeqCst) + 1;
        let plan = *self.plan.lock().expect("the plan");
        let fault = |side| plan.filter(|(at, on, _)| (*at, *on) == (number, side)).map(|(_, _, fault)| fault);
        self.suffer(fault(Side::Before)).await?;
        let answer = call.await;
        self.suffer(fault(Side::After)).await?;
        // Another task may run between any two steps.
        tokio::task::yield_now().await;
        Ok(answer)
    }

    async fn suffer(&self, fault: Option<Fault>) -> Result<(), ProviderFailed> {
        match fault {
            None => Ok(()),
            Some(Fault::Fail) => Err(ProviderFailed),
            Some(Fault::Kill) => {
                self.inner.killed.notify_one();
                // Whoever waits for an answer is not there any more when it would come.
                std::future::pending().await
            }
        }
    }

    fn begin_run(&self, plan: Option<(u32, Side, Fault)>) {
        *self.plan.lock().expect("the plan") = plan;
        self.inner.count.store(0, Ordering::SeqCst);
    }

    fn count(&self) -> u32 {
        self.inner.count.load(Ordering::SeqCst)
    }
}

/// What a rehearsal saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rehearsed {
    /// Steps of an undisturbed run.
    pub(crate) steps: u32,
    /// Worlds in which it undid.
    pub(crate) runs: u32,
}

/// Rehearses a compensation. The error names what was done to it and what came of it.
pub(crate) async fn rehearse<S: Saga>() -> Result<Rehearsed, String> {
    let steps = Steps::default();
    let saga = S::begin(steps.clone());
    let untouched = saga.world();
    completes(&saga, &steps, Try::First).await.map_err(|what| format!("an undisturbed run {what}"))?;
    let (undone, count) = (saga.world(), steps.count());
    if undone == untouched || count == 0 {
        return Err(format!("an undisturbed run changed nothing: {undone}"));
    }
    // Its answer was lost, and whatever it had told.
    let repetition = Try::AfterLoss(Value::Null);
    completes(&saga, &steps, repetition).await.map_err(|what| format!("a repetition {what}"))?;
    same(&saga, &undone, "a repetition")?;

    let mut runs = 2;
    for number in 1..=count {
        for (side, fault) in
            [Side::Before, Side::After].into_iter().flat_map(|side| [(side, Fault::Fail), (side, Fault::Kill)])
        {
            let steps = Steps::default();
            let saga = S::begin(steps.clone());
            let what = format!("{fault:?} {side:?} step {number}").to_lowercase();
            steps.begin_run(Some((number, side, fault)));
            let outcome = run(&saga, &steps, Try::First).await;
            match (fault, &outcome) {
                (Fault::Fail, Ok(Outcome::Completed(_))) if saga.world() != undone => {
                    return Err(format!("after {what} it says that it has undone everything: {}", saga.world()));
                }
                (Fault::Fail, Err(_)) | (Fault::Kill, Ok(_)) => {
                    return Err(format!("{what} did not happen: {outcome:?}"));
                }
                _ => {}
            }
            let again = outcome.map_or_else(Try::AfterLoss, |_| Try::Second);
            completes(&saga, &steps, again).await.map_err(|came| format!("run again after {what}, it {came}"))?;
            same(&saga, &undone, &format!("run again after {what}"))?;
            runs += 1;
        }
    }
    Ok(Rehearsed { steps: count, runs })
}

fn same<S: Saga>(saga: &S, undone: &str, what: &str) -> Result<(), String> {
    let world = saga.world();
    if world == undone { Ok(()) } else { Err(format!("{what} (repeat) left {world} instead of {undone}")) }
}

/// Which run of the ticket it is.
enum Try {
    First,
    /// The first attempt has failed. Where it had undone everything all the same nothing tells the second one so, which may
    /// then say that it has undone nothing: an operator looks.
    Second,
    /// Of the first attempt, whose worker had told this before it was lost.
    AfterLoss(Value),
}

/// Runs it undisturbed. Whether everything is undone then is for [`same`] to say.
async fn completes<S: Saga>(saga: &S, steps: &Steps, it: Try) -> Result<(), String> {
    steps.begin_run(None);
    let is_second = matches!(it, Try::Second);
    match run(saga, steps, it).await {
        Ok(Outcome::Completed(_)) => Ok(()),
        Ok(Outcome::Failed(failed)) if is_second && failed.code == code::COMPENSATION_NOT_DEFINED => Ok(()),
        other => Err(format!("ends with {other:?}")),
    }
}

/// One run; what it had told when it was killed.
async fn run<S: Saga>(saga: &S, steps: &Steps, it: Try) -> Result<Outcome, Value> {
    let (attempt, lost_workers, recorded) = match it {
        Try::First => (1, 0, Value::Null),
        Try::Second => (2, 0, Value::Null),
        Try::AfterLoss(told) => (1, 1, told),
    };
    let progress = Progress::default();
    let ticket = saga.ticket();
    let params = ParameterView::new(&ticket.parameters).deserialize().expect("parameters of the undo");
    let job = Job {
        ticket: Arc::new(ticket),
        run_id: "run".to_owned(),
        attempt,
        lost_workers,
        time_left: Duration::from_secs(60),
        recorded,
        stop: CancellationToken::new(),
        detach: CancellationToken::new(),
        progress: progress.clone(),
    };
    let undo = saga.undo();
    tokio::select! {
        biased;
        outcome = undo.execute(params, job) => Ok(outcome),
        () = steps.inner.killed.notified() => Err(progress.get()),
    }
}
