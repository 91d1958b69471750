//! What commands that list things say, and where.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

/// Writes to standard output; `false` once nobody reads it any more (`… | head`).
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Nothing matched: said on standard error, exit code 1.
pub(super) fn nothing(what: &str) -> ExitCode {
    eprintln!("worker-agents: {what}");
    ExitCode::from(1)
}
