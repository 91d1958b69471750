//! What workflow code asks for while it is replayed, heard beside the worker that replays it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use temporalio_common::protos::coresdk::workflow_activation::WorkflowActivation;
use temporalio_common::protos::coresdk::workflow_completion::WorkflowActivationCompletion;
use temporalio_common::protos::coresdk::workflow_completion::workflow_activation_completion::Status;
use temporalio_common::protos::temporal::api::history::v1::history_event::Attributes;
use temporalio_sdk::interceptors::WorkerInterceptor;

use crate::comparison::comparable;

/// What names one thing in a history and in what code asks for: `timer 2`, `activity 1`, `search attributes #3`.
pub(crate) type Key = String;

/// Numbers what has no id of its own.
#[derive(Default)]
pub(crate) struct Numbers(HashMap<&'static str, usize>);

impl Numbers {
    pub(crate) fn next(&mut self, what: &'static str) -> Key {
        let number = self.0.entry(what).or_default();
        *number += 1;
        format!("{what} #{number}")
    }
}

/// One thing that the code asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) key: Key,
    /// Id of the event that started the workflow task.
    pub(crate) task: i64,
    /// Name and attributes of the event. `None`: that it is asked for is all that a history says.
    pub(crate) event: Option<(String, Value)>,
    /// The server may have made no event of it: it came to nothing before it was sent, or it undoes something else.
    pub(crate) optional: bool,
}

/// What was heard during one replay.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) asked: Vec<Asked>,
    /// A workflow task that the code did not get through: its start event, and why.
    pub(crate) broken: Option<(i64, String)>,
    task: i64,
    ended: bool,
    pub(crate) numbers: Numbers,
    pub(crate) activity_ids: HashMap<u32, String>,
}

/// Listens to the worker that replays.
#[derive(Clone, Default)]
pub(crate) struct Listener(Arc<Mutex<Heard>>);

impl Listener {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut self.heard())
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl WorkerInterceptor for Listener {
    fn on_workflow_activation<'a, 'b, 'c>(
        &'a self,
        activation: &'b WorkflowActivation,
    ) -> Answer<'c, anyhow::Result<()>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        self.heard().task = i64::from(activation.history_length);
        Box::pin(std::future::ready(Ok(())))
    }

    fn on_workflow_activation_completion<'a, 'b, 'c>(
        &'a self,
        completion: &'b WorkflowActivationCompletion,
    ) -> Answer<'c, ()>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        let mut heard = self.heard();
        match &completion.status {
            Some(Status::Successful(success)) => {
                for command in &success.commands {
                    heard.hear(command.variant.clone());
                }
            }
            Some(Status::Failed(failed)) => {
                let why = failed.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
                heard.break_with(why);
            }
            None => heard.break_with("an answer that says nothing".to_owned()),
        }
        Box::pin(std::future::ready(()))
    }
}

impl Heard {
    pub(crate) fn break_with(&mut self, why: String) {
        let task = self.task;
        self.broken.get_or_insert((task, why));
    }

    pub(crate) fn ask(&mut self, key: Key, attributes: Attributes) {
        self.push(key, Some(comparable(&attributes)), false);
    }

    pub(crate) fn push(&mut self, key: Key, event: Option<(String, Value)>, optional: bool) {
        // What comes with the end, or after it, is not carried out.
        if !self.ended {
            self.asked.push(Asked { key, task: self.task, event, optional });
        }
    }

    pub(crate) fn end(&mut self, attributes: Attributes) {
        self.ask("end".to_owned(), attributes);
        self.ended = true;
    }

    /// What is undone in the task that asked for it never reaches the server.
    pub(crate) fn undo(&mut self, what: &str) {
        let task = self.task;
        for asked in self.asked.iter_mut().filter(|asked| asked.task == task && asked.key == what) {
            asked.optional = true;
        }
        self.push(format!("cancel of {what}"), None, true);
    }
}
