//! Credentials that change while the worker runs, against a real Kafka with SASL_SSL: out of files, from a token endpoint, and
//! out of a real OpenBao.
//!
//! Runs with `REAL_KAFKA=1` (`make test-kafka`, `make test-vault`); else, or where a peer cannot be had, each test says that it
//! was skipped.
#![cfg(feature = "dev-stack")]

mod broker;
#[path = "../support/instance.rs"]
mod instance;
mod rotation;
mod vault;
#[path = "../end_to_end/world.rs"]
#[expect(dead_code, reason = "this test uses a part of it")]
mod world;
