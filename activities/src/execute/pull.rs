//! When images are pulled. Settings name it in every build, with Docker or without.

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have it.
    IfNotPresent,
    /// Before every container.
    Always,
    /// Never: the engine has it, or the ticket fails.
    Never,
}
