//! What every runtime holds commands to, wherever they run.

use std::time::Duration;

use ticket_workflows::{Failed, code};

/// Most words a command may have.
pub(in crate::execute) const MAX_WORDS: usize = 4096;
/// Most bytes of all words together, or of all variables, and so of one: Linux takes no longer one (`MAX_ARG_STRLEN`), with its
/// NUL.
pub(in crate::execute) const MAX_BYTES: usize = 128 * 1024;

/// Whether no program can be given so much.
pub(in crate::execute) fn is_too_long(command: &[String]) -> bool {
    command.len() > MAX_WORDS || command.iter().map(|word| word.len() + 1).sum::<usize>() > MAX_BYTES
}

/// Whether a word holds what no program can be given.
pub(in crate::execute) fn has_nul(command: &[String]) -> bool {
    command.iter().any(|word| word.contains('\0'))
}

/// The ticket's fault, and what to change.
pub(in crate::execute) fn invalid(message: impl Into<String>) -> Failed {
    Failed::permanent(code::INVALID_PARAMETERS, message)
}

/// A text without blanks around it; `None`: there is none.
pub(in crate::execute) fn given(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The time that `timeout_seconds` asks for.
pub(in crate::execute) fn time_limit(asked: Option<f64>, default: Duration) -> Result<Duration, Failed> {
    named_time_limit("timeout_seconds", asked, default)
}

/// The time that the parameter `name` asks for, in seconds.
pub(crate) fn named_time_limit(name: &str, asked: Option<f64>, default: Duration) -> Result<Duration, Failed> {
    match asked {
        None => Ok(default),
        Some(seconds) if seconds > 0.0 => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
        Some(_) => Err(invalid(format!("parameter {name:?} must be above zero; remove it for the default"))),
    }
}
