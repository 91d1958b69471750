//! The engine: every call that is made to it, counted, with its faults typed. No decision is made here.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState, ContainerSummary, SystemInfo};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, InspectContainerOptions, ListContainersOptions, LogsOptions,
    RemoveContainerOptions, StartContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::check::EngineFacts;
use super::faults::{fault, is_missing_image, is_other_version, of_asked, of_pull, of_start, status};
use crate::border::{border, border_call};
use crate::execute::gathering::Gathering;
use crate::external::{Fault, OnCall, said};

/// Until the head of an answer is there. Above what the protocol waits for any single call, which bounds them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Output as it comes.
pub(super) type Pieces = Gathering<BoxStream<'static, Result<LogOutput, Error>>, Error>;

/// What a create came to.
pub(super) enum Created {
    /// The new container.
    New(String),
    /// Somebody has the name.
    NameTaken(String),
    /// The engine does not have the image.
    NoImage(String),
}

/// A Docker engine.
pub struct Engine {
    address: String,
    on_call: OnCall,
    connected: Mutex<Option<Docker>>,
}

impl Engine {
    /// The engine at `address`: `unix://…`, `tcp://…` or `http://…`. It is not called before it is needed.
    #[must_use]
    pub fn new(address: String, on_call: OnCall) -> Self {
        Self { address, on_call, connected: Mutex::default() }
    }

    /// What the engine is and what it can do.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn facts(&self) -> Result<EngineFacts, Fault> {
        let daemon = self.daemon().await?;
        let version = Docker::client_version(&daemon).to_string();
        Ok(EngineFacts::of(version, self.info().await?))
    }

    /// What the engine calls itself; empty when it has no name.
    pub(super) async fn id(&self) -> Result<String, Fault> {
        Ok(said(&self.info().await?.id.unwrap_or_default()))
    }

    async fn info(&self) -> Result<SystemInfo, Fault> {
        let daemon = self.daemon().await?;
        self.called("info", border("docker.info", daemon.info()).await).map_err(fault)
    }

    /// The client, with the version of the API that both speak.
    async fn daemon(&self) -> Result<Docker, Fault> {
        if let Some(client) = &*self.connected() {
            return Ok(client.clone());
        }
        let timeout = ANSWER_TIMEOUT.as_secs();
        let client = match self.address.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, timeout, API_DEFAULT_VERSION),
            None => Docker::connect_with_http(&self.address, timeout, API_DEFAULT_VERSION),
        };
        let negotiated = border("docker.version", client.map_err(fault)?.negotiate_version()).await;
        let client = self.called("version", negotiated).map_err(fault)?;
        *self.connected() = Some(client.clone());
        Ok(client)
    }

    fn connected(&self) -> MutexGuard<'_, Option<Docker>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Containers with all these labels (`name` or `name=value`). `running`: only those that run.
    pub(super) async fn list(&self, labels: Vec<String>, running: bool) -> Result<Vec<ContainerSummary>, Fault> {
        let daemon = self.daemon().await?;
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptions { all: !running, filters: Some(filters), ..Default::default() };
        self.called("list", border("docker.list", daemon.list_containers(Some(options))).await).map_err(fault)
    }

    /// The folders for which the image wants a volume; `None`: the engine does not have the image.
    pub(super) async fn volumes_of(&self, image: &str) -> Result<Option<Vec<String>>, Fault> {
        let daemon = self.daemon().await?;
        let looked = border("docker.image", daemon.inspect_image(image)).await;
        match self.called_unless(&[404], "image", looked) {
            Ok(found) => Ok(Some(found.config.and_then(|config| config.volumes).unwrap_or_default())),
            Err(error) if is_missing_image(&error) => Ok(None),
            Err(error) => Err(of_asked(error)),
        }
    }

    pub(super) async fn pull(&self, image: &str, login: Option<DockerCredentials>) -> Result<(), Fault> {
        let daemon = self.daemon().await?;
        // A reference without tag and digest stands for all tags to this call.
        let tag = (!image.contains('@') && !image[image.rfind('/').unwrap_or(0)..].contains(':'))
            .then(|| "latest".to_owned());
        let options = CreateImageOptions { from_image: Some(image.to_owned()), tag, ..Default::default() };
        let done = |_| std::future::ready(Ok(()));
        let pulled = border("docker.pull", daemon.create_image(Some(options), None, login).try_for_each(done)).await;
        self.called("pull", pulled).map_err(|error| of_pull(image, error))
    }

    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<Created, Fault> {
        let daemon = self.daemon().await?;
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let created = border("docker.create", daemon.create_container(Some(options), body)).await;
        match self.called_unless(&[409], "create", created) {
            Ok(answer) => Ok(Created::New(answer.id)),
            Err(Error::DockerResponseServerError { status_code: 409, message }) => Ok(Created::NameTaken(message)),
            Err(error) if is_missing_image(&error) => Ok(Created::NoImage(error.to_string())),
            Err(error) => Err(of_asked(error)),
        }
    }

    pub(super) async fn start(&self, id: &str) -> Result<(), Fault> {
        let daemon = self.daemon().await?;
        let started = border("docker.start", daemon.start_container(id, None::<StartContainerOptions>)).await;
        self.called("start", started).map_err(of_start)
    }

    pub(super) async fn state(&self, id: &str) -> Result<ContainerState, Fault> {
        let daemon = self.daemon().await?;
        let looked = border("docker.inspect", daemon.inspect_container(id, None::<InspectContainerOptions>)).await;
        let found = self.called("inspect", looked).map_err(fault)?;
        found
            .state
            .ok_or_else(|| Fault::Malformed { cause: "the engine described a container without a state".to_owned() })
    }

    /// Returns when the container does not run.
    pub(super) async fn wait(&self, id: &str) -> Result<(), Fault> {
        let daemon = self.daemon().await?;
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let waited = border("docker.wait", async { pin!(daemon.wait_container(id, Some(options))).next().await });
        let answer = match waited.await {
            // An exit code above zero is an error to the client, and an answer to us.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(error),
            None => Err(Error::RequestTimeoutError),
        };
        self.called("wait", answer).map_err(fault)
    }

    /// TERM, after `grace` KILL; returns when the container does not run.
    pub(super) async fn stop(&self, id: &str, grace: Duration) -> Result<(), Fault> {
        let daemon = self.daemon().await?;
        let t = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(t), ..Default::default() };
        let stopped = border("docker.stop", daemon.stop_container(id, Some(options))).await;
        self.called_unless(&[404], "stop", stopped).map_err(fault)
    }

    /// Gives what the container has written to `take`, piece by piece.
    pub(super) async fn logs(&self, id: &str, mut take: impl FnMut(LogOutput)) -> Result<(), Fault> {
        let daemon = self.daemon().await?;
        let options = LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..Default::default() };
        let read = border("docker.logs", async {
            let mut pieces = pin!(daemon.logs(id, Some(options)));
            while let Some(piece) = pieces.try_next().await? {
                take(piece);
            }
            Ok(())
        });
        self.called("logs", read.await).map_err(fault)
    }

    /// What the container writes from `since` (epoch seconds) on, until it ends; each piece with the engine's time in front.
    pub(super) async fn follow(&self, id: &str, since: i32) -> Result<Pieces, Fault> {
        let daemon = self.daemon().await?;
        let options =
            LogsOptions { follow: true, stdout: true, stderr: true, since, timestamps: true, ..Default::default() };
        let pieces = border_call("docker.follow", || daemon.logs(id, Some(options)));
        Ok(Gathering::of(pieces.boxed()))
    }

    /// The next pieces of those; `None` when there are no more.
    pub(super) async fn next(&self, pieces: &mut Pieces) -> Result<Option<Vec<LogOutput>>, Fault> {
        match pieces.next().await {
            Ok(Some(next)) => Ok(Some(next)),
            end => self.called("follow", end).map_err(fault),
        }
    }

    /// Kills and removes the container and its anonymous volumes.
    pub(super) async fn remove(&self, id: &str) -> Result<(), Fault> {
        let daemon = self.daemon().await?;
        let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
        let removed = border("docker.remove", daemon.remove_container(id, Some(options))).await;
        self.called_unless(&[404, 409], "remove", removed).map_err(fault)
    }

    fn called<T>(&self, method: &'static str, answer: Result<T, Error>) -> Result<T, Error> {
        self.called_unless(&[], method, answer)
    }

    /// Counts a call. Statuses of `expected` are answers, not errors.
    fn called_unless<T>(&self, expected: &[u16], method: &'static str, answer: Result<T, Error>) -> Result<T, Error> {
        let answered = answer.as_ref().err().is_none_or(|error| status(error).is_some_and(|it| expected.contains(&it)));
        (self.on_call)(method, answered);
        if answer.as_ref().err().is_some_and(is_other_version) {
            // The next call agrees on a version with the engine that is there now.
            *self.connected() = None;
        }
        answer
    }
}
