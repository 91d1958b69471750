//! The worker as a process against a real Apache Kafka, a real Schema Registry and a real Temporal dev server:
//! `make test-kafka`, and `FULL=1 make test-kafka` for more of everything.
//!
//! What the embedded broker cannot show: security, replicas, a broker that is killed and comes back with its data, the
//! duration of a rebalance, committed offsets as another client reads them. `make test` does not run these tests: they
//! need Java, and minutes.
#![cfg(feature = "dev-stack")]

#[path = "../support/instance.rs"]
mod instance;
mod lane;
mod outages;
mod rebalance;
mod security;
mod whole;
#[expect(dead_code, reason = "tests/end_to_end uses more of it")]
#[path = "../end_to_end/world.rs"]
mod world;
