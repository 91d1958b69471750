//! Code Forge: code that is made of a template, as external work (`contracts/executors.md`, EXECUTE, Code Forge generation).
//!
//! Its API knows no key, finds nothing and ends nothing. So a generation is asked for once, the id of the request, which is in
//! the heartbeat, is the only way back to it, and one that nobody wants any more is `unknown`: it is never said to have
//! stopped (INC-44, `docs/adr/0029-code-forge.md`).

mod api;
mod params;
mod runtime;

pub use api::{CodeForge, Generation, GenerationRequest, InvalidRequestId, PipelineId, RequestId, Stage};
pub use params::GenerationParams;
pub use runtime::{CodeForgeRuntime, GenerationTimes, Requested};
