//! EXECUTE tickets in containers of a real Docker engine, by workers as processes: `make test-docker`.
//!
//! What a fake would not show: what the kernel keeps containers from, an engine's own words, processes that go on without
//! their worker. `make test` does not run these tests: they need root, and Debian's packages.
#![cfg(all(feature = "dev-stack", feature = "docker"))]

#[path = "../support/instance.rs"]
mod instance;
mod lane;
mod limits;
mod lives;
#[expect(dead_code, reason = "tests/end_to_end uses more of it")]
#[path = "../end_to_end/world.rs"]
mod world;
