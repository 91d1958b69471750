//! The dev server's process, behind its supervisor.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use ticket_activities::supervisor::{Notice, Supervised, SupervisorCommand};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::output::{Output, Reader};

/// What to run.
pub(super) struct Launch<'a> {
    pub(super) supervisor: &'a SupervisorCommand,
    pub(super) grace: Duration,
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<OsString>,
    pub(super) log_file: Option<&'a Path>,
}

/// A supervised process. Its tree ends when this is dropped.
#[derive(Debug)]
pub(super) struct Child {
    stop: DropGuard,
    ended: watch::Receiver<Option<String>>,
    output: Output,
    pid: i32,
}

impl Child {
    /// Starts it, in this process's folder, with an empty environment.
    pub(super) async fn start(launch: Launch<'_>) -> io::Result<Self> {
        let (output, streams, reader) = Output::open(launch.log_file)?;
        let configure = |command: &mut tokio::process::Command| {
            // The CLI would take addresses, namespaces and keys of the user's clusters from the environment.
            command.env_clear().stdout(streams.0).stderr(streams.1);
        };
        let supervised =
            Supervised::start(launch.supervisor, launch.grace, launch.program, launch.arguments, configure)
                .await
                .map_err(io::Error::other)?;
        let pid = supervised.pid();
        let stop = CancellationToken::new();
        let (tell, ended) = watch::channel(None);
        tokio::spawn(watch_over(supervised, stop.clone(), reader, tell));
        Ok(Self { stop: stop.drop_guard(), ended, output, pid })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn output(&self) -> Output {
        self.output.clone()
    }

    /// Resolves, once nothing of the tree is left, with how it ended. All output is there by then.
    pub(super) fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            match ended.wait_for(Option::is_some).await {
                Ok(how) => how.clone().unwrap_or_default(),
                // Only when the runtime itself is being taken down.
                Err(_) => "nobody watches it any more".into(),
            }
        }
    }

    /// Asks for the end of the tree and waits for it.
    pub(super) async fn stop(self) {
        let ended = self.ended();
        drop(self.stop);
        ended.await;
    }
}

/// Waits for the end, or brings it about; collects the supervisor and the last output; tells.
async fn watch_over(
    mut supervised: Supervised,
    stop: CancellationToken,
    reader: Reader,
    tell: watch::Sender<Option<String>>,
) {
    let notice = tokio::select! {
        notice = supervised.ended() => notice,
        () = stop.cancelled() => supervised.stop().await,
    };
    supervised.collect(notice.as_ref()).await;
    reader.finish().await;
    let how = match notice {
        Some(Notice::Ended { exit_code: Some(code), .. }) => format!("exit code {code}"),
        Some(Notice::Ended { signal: Some(signal), .. }) => format!("signal {signal}"),
        Some(Notice::Ended { .. }) => "neither exit code nor signal".into(),
        _ => "its supervisor was lost".into(),
    };
    tell.send_replace(Some(how));
}
