//! The Kubernetes runtime: a command as a Job, which is found again, stopped and removed (`docs/adr/0031-kubernetes-jobs.md`).
//!
//! The pod keeps to the `restricted` Pod Security Standard and gets nothing that its ticket was not given: no root, no
//! capability, no token, a root that cannot be written, limits on CPU and memory. A ticket that asks for more is refused,
//! never run with less (INC-72, INC-73).

mod access;
mod api;
mod check;
mod client;
mod faults;
mod job;
mod log;
mod params;
mod plugin;
mod pod;
mod runtime;
mod standing;
mod verdict;

pub use access::Access;
pub use check::ClusterFacts;
pub use client::Cluster;
pub use job::{JobHandle, Spec};
pub use log::Written;
pub use params::{Amounts, KubernetesParams};
pub use runtime::{KubernetesConfig, KubernetesRuntime};
pub use verdict::Ended;
