//! A Service Registry without one to install: its gRPC API as `contracts/service-registry.md §2` says, in this process, in
//! memory. A development and test tool.
//!
//! It asks nobody who they are, and knows of no pheromones: they count the same for all agents.

mod api;
mod store;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use platform_proto::service_registry::service_registry_server::ServiceRegistryServer;
use platform_proto::service_registry::{AgentChangeEvent, AgentInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::accept;
use store::Store;

/// Between two looks at who is silent.
const LOOK: Duration = Duration::from_secs(60);
/// Events that a slow watcher may be behind.
const MOST_UNREAD: usize = 1024;

/// An in-process Service Registry. Clones share one store and one set of faults.
#[derive(Debug, Clone)]
pub struct ServiceRegistryStandIn(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    events: broadcast::Sender<AgentChangeEvent>,
    registrations: AtomicU32,
    silent: AtomicBool,
    refusal: Mutex<Option<Code>>,
    cut: Notify,
}

impl Default for ServiceRegistryStandIn {
    fn default() -> Self {
        Self::new()
    }
}

impl ServiceRegistryStandIn {
    /// One that knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            store: Mutex::default(),
            events: broadcast::Sender::new(MOST_UNREAD),
            registrations: AtomicU32::new(0),
            silent: AtomicBool::new(false),
            refusal: Mutex::new(None),
            cut: Notify::new(),
        }))
    }

    /// The agents that it knows, the oldest first.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentInfo> {
        self.store().all()
    }

    /// How many registrations it has ever taken.
    #[must_use]
    pub fn registrations(&self) -> u32 {
        self.0.registrations.load(Ordering::Relaxed)
    }

    /// How many watch it.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.0.events.receiver_count()
    }

    /// Fault: it knows nobody any more, as after a restart without its storage. Watchers are told nothing.
    pub fn forget_all(&self) {
        self.store().forget_all();
    }

    /// Fault: every connection is cut and nobody is known any more, as when it is killed and started again at its port.
    pub fn restart(&self) {
        self.0.cut.notify_waiters();
        self.forget_all();
    }

    /// Fault: while set, every call is answered with this code.
    pub fn set_refusal(&self, code: Option<Code>) {
        *self.0.refusal.lock().unwrap_or_else(PoisonError::into_inner) = code;
    }

    /// Fault: while set, no call is answered at all.
    pub fn set_silent(&self, silent: bool) {
        self.0.silent.store(silent, Ordering::Relaxed);
    }

    /// Serves the API until `stop`, which cuts every connection, as a crash would.
    ///
    /// # Errors
    /// When the listener breaks.
    pub fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let this = self.clone();
        async move {
            tokio::spawn(this.clone().look_for_silent_agents(stop.clone()));
            accept::each(listener, stop, |connection| {
                let this = this.clone();
                async move { this.serve_connection(connection).await }
            })
            .await
        }
    }

    /// Serves one connection to its end or a restart, whatever carries it.
    pub async fn serve_connection(&self, connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let service = TowerToHyperService::new(ServiceRegistryServer::new(self.clone()));
        let builder = Builder::new(TokioExecutor::new()).http2_only();
        tokio::select! {
            served = builder.serve_connection(TokioIo::new(connection), service) => {
                // A client may break its connection at any time.
                if let Err(error) = served {
                    tracing::debug!(error, "a connection to the service registry ended");
                }
            }
            () = self.0.cut.notified() => {}
        }
    }

    async fn look_for_silent_agents(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let changes = self.store().look(now());
            self.tell(changes);
        }
    }

    fn tell(&self, events: impl IntoIterator<Item = AgentChangeEvent>) {
        for event in events {
            // Nobody may be watching.
            let _ = self.0.events.send(event);
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Epoch seconds.
fn now() -> i64 {
    ticket_activities::now_ms() / 1000
}
