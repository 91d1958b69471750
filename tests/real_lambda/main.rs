//! EXECUTE tickets by functions of a stand-in of AWS (moto), by workers as processes: `make test-lambda`.
//!
//! What our own fake would not show: an API that AWS's other clients use too, and how often it was really called, by its own log. It runs
//! no code: it answers with what it was told to, or with what it was asked. `make test` does not run these tests.
#![cfg(all(feature = "dev-stack", feature = "lambda"))]

mod gate;
#[path = "../support/instance.rs"]
mod instance;
mod lane;
mod lives;
mod logs;
#[expect(dead_code, reason = "tests/end_to_end uses more of it")]
#[path = "../end_to_end/world.rs"]
mod world;
