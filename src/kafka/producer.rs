//! The producer of results and dead letters, replaced in one step when credentials change.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::message::ToBytes;
use rdkafka::producer::future_producer::OwnedDeliveryResult;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::util::Timeout;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Clients;
use super::context::Context;
use super::login::Login;

/// Hands out the current producer. Clones share it.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    clients: Clients,
    context: Context,
    current: RwLock<FutureProducer<Context>>,
}

impl Producer {
    pub(super) fn new(clients: Clients) -> anyhow::Result<Self> {
        let context = clients.context("producer");
        let current = clients.producer_config().create_with_context(context.clone())?;
        Ok(Self(Arc::new(Inner { clients, context, current: RwLock::new(current) })))
    }

    /// Sends a record and waits for its acknowledgement. A producer that is replaced meanwhile finishes it.
    ///
    /// # Errors
    /// As [`FutureProducer::send`].
    pub async fn send<K, P>(&self, record: FutureRecord<'_, K, P>, timeout: Timeout) -> OwnedDeliveryResult
    where
        K: ToBytes + ?Sized,
        P: ToBytes + ?Sized,
    {
        let producer = self.current();
        let result = producer.send(record, timeout).await;
        if result.is_ok() {
            self.0.context.served();
        }
        result
    }

    /// Waits until everything is acknowledged.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub fn flush(&self, timeout: Duration) -> KafkaResult<()> {
        self.current().flush(timeout)
    }

    /// Replaces the producer whenever the credentials change, until stopped.
    pub(crate) fn follow_credentials(self, stop: CancellationToken) -> impl Future<Output = ()> + Send {
        // From here on no change is missed.
        let renewals = self.0.clients.renewals();
        self.follow(renewals, stop)
    }

    async fn follow(self, mut renewals: watch::Receiver<Login>, stop: CancellationToken) {
        while let Some(Ok(())) = stop.run_until_cancelled(renewals.changed()).await {
            let this = self.clone();
            // Making a client reads files; the last use of one may wait for its thread.
            let replaced = tokio::task::spawn_blocking(move || this.replace()).await;
            match replaced.unwrap_or_else(|error| Err(error.into())) {
                Ok(()) => tracing::info!("kafka_producer_replaced"),
                Err(error) => tracing::error!(%error, "the Kafka producer keeps its old credentials"),
            }
        }
    }

    fn replace(&self) -> anyhow::Result<()> {
        let new = self.0.clients.producer_config().create_with_context(self.0.context.clone())?;
        let old = std::mem::replace(&mut *self.0.current.write().unwrap_or_else(PoisonError::into_inner), new);
        // Those who still wait for it hold it themselves.
        drop(old);
        Ok(())
    }

    fn current(&self) -> FutureProducer<Context> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
