//! The Docker runtime: a command in a container, which is found again, stopped and removed.
//!
//! The container gets nothing that its ticket was not given: no root, no capability, no new privileges, a root that cannot
//! be written, no network unless a setting allows one, limits on CPU, memory and processes. A ticket that asks for more is
//! refused, never run with less (INC-72, INC-74).

mod check;
mod client;
mod container;
mod faults;
mod follow;
mod image;
mod params;
mod runtime;
mod starts;

pub use check::EngineFacts;
pub use client::Engine;
pub use container::{Container, Spec};
pub use image::{RegistryLogin, registry_of};
pub use params::DockerParams;
pub use runtime::{DockerConfig, DockerRuntime};
