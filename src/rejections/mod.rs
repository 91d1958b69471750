//! Rejections of guard-agents, followed when `KAFKA_REJECTED_TOPIC` is set (INC-02): guard-agents checks tickets in
//! parallel with this worker, so a ticket may be running before it is rejected. Its open workflow is then cancelled.
//!
//! A rejection is committed once it has been followed, or cannot be. One whose ticket has no workflow yet is tried again
//! for a bounded time; nothing is remembered beside its uncommitted offset.

mod cancel;
mod consumer;
mod record;

pub use consumer::Rejections;
