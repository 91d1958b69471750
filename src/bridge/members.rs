//! How many members the consumer group has: what the group may have in flight is its members times the limit of one.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use ticket_activities::border_call;

use super::gate::Gate;

/// Between two questions.
const REFRESH: Duration = Duration::from_secs(5);
/// How long an answer may take. It is waited for on a thread of its own.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How a group says that its members are known.
const STABLE: &str = "Stable";

/// Tells the gate the number of members. When the brokers do not tell, the last number holds.
pub(crate) async fn follow<C, X>(consumer: Arc<C>, group: String, gate: Gate)
where
    C: Consumer<X> + Send + Sync + 'static,
    X: ConsumerContext,
{
    let mut told = true;
    loop {
        let (asking, name) = (Arc::clone(&consumer), group.clone());
        let answer = tokio::task::spawn_blocking(move || count(&*asking, &name)).await;
        match answer {
            Ok(Ok(members)) => {
                gate.members(members);
                told = true;
            }
            // Not every stand-in of a broker can; a real one always can.
            Ok(Err(KafkaError::GroupListFetch(RDKafkaErrorCode::UnsupportedFeature))) => {
                tracing::info!(group, "the brokers do not tell the members of a group; one is assumed");
                return;
            }
            Ok(Err(error)) if told => {
                told = false;
                tracing::warn!(
                    group,
                    %error,
                    "the members of the consumer group are not known; the last number stays in force; \
                     let the worker DESCRIBE its group"
                );
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "asking for the members of the consumer group broke"),
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// Members of the group; 0 while it rebalances.
fn count<C: Consumer<X>, X: ConsumerContext>(consumer: &C, group: &str) -> Result<usize, KafkaError> {
    let groups = border_call("kafka.members", || consumer.fetch_group_list(Some(group), TIMEOUT))?;
    let stable = groups.groups().iter().find(|found| found.name() == group && found.state() == STABLE);
    Ok(stable.map_or(0, |found| found.members().len()))
}
