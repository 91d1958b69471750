//! EXECUTE tickets as Jobs of a real Kubernetes cluster with a real node, by workers as processes: `make test-k8s`.
//!
//! What a fake would not show: what namespaces admit, what the kubelet does to logs, reasons and pods, and Jobs that go on
//! without their worker. Beside the real node there are simulated ones, for many Jobs at once. `make test` does not run these tests: they need root, Debian's packages, and Go once.
#![cfg(all(feature = "dev-stack", feature = "kubernetes"))]

mod ends;
#[path = "../support/instance.rs"]
mod instance;
mod lane;
mod limits;
mod lives;
mod load;
mod logs;
#[expect(dead_code, reason = "tests/end_to_end uses more of it")]
#[path = "../end_to_end/world.rs"]
mod world;
