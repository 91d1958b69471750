//! What every runtime that runs containers holds tickets to.

use std::collections::BTreeMap;

use serde_json::Value;
use ticket_schemas::{ParameterView, Ticket};
use ticket_workflows::{Failed, code};

use super::command::{MAX_BYTES, MAX_WORDS, has_nul, invalid, is_too_long};
use super::image::is_image;
use crate::external::said;

/// Most bytes of a path: Linux takes no longer one.
const MAX_PATH: usize = 4096;
/// Exit code of what was ended by KILL.
pub(in crate::execute) const KILLED: i64 = 137;
/// The image of tickets that name none (`contracts/executors.md`).
const DEFAULT_IMAGE: &str = "python:3.11-slim";

/// INC-74: what a container is kept from is nothing that a ticket can ask for. `refused`: the parameters that would open it.
pub(in crate::execute) fn refuse_what_opens(ticket: &Ticket, refused: &[&str]) -> Result<(), Failed> {
    let parameters = ParameterView::new(&ticket.parameters);
    let asks = |value: &Value| match value {
        Value::Bool(flag) => *flag,
        Value::String(text) => !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "false" | "[]" | "{}"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::Null | Value::Number(_) => true,
    };
    match refused.iter().find(|name| parameters.get(name).is_some_and(asks)) {
        None => Ok(()),
        Some(name) => Err(invalid(format!(
            "parameter {name:?} is not for tickets: containers run without root, capabilities, devices and mounts of the host. \
             remove it"
        ))),
    }
}

/// The image, and the words of the command; without any word the image runs what it runs by itself.
pub(in crate::execute) fn image_and_command(
    image: Option<String>,
    mut command: Vec<String>,
    args: Vec<String>,
) -> Result<(String, Vec<String>), Failed> {
    let named = image.filter(|image| !image.trim().is_empty());
    command.extend(args);
    if named.is_none() && command.is_empty() {
        return Err(invalid("parameter \"command\" is missing; name the program to run, or an image that runs one"));
    }
    if is_too_long(&command) {
        return Err(invalid(format!("the command is longer than {MAX_WORDS} words or {MAX_BYTES} bytes")));
    }
    if has_nul(&command) {
        return Err(invalid("the command holds a NUL byte, which no program can be given"));
    }
    if command.first().is_some_and(|word| word.trim().is_empty()) {
        return Err(invalid("the first word of the command is blank; name the program to run"));
    }
    let image = named.map_or_else(|| DEFAULT_IMAGE.to_owned(), |image| image.trim().to_owned());
    if !is_image(&image) {
        return Err(invalid(format!("parameter \"image\" is no image reference: {:?}", said(&image))));
    }
    Ok((image, command))
}

pub(in crate::execute) fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), Failed> {
    let mut bytes = 0;
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) || name.chars().any(char::is_control) {
            return Err(invalid(format!("env_vars: {:?} is not a variable name", said(name))));
        }
        if value.contains('\0') {
            return Err(invalid(format!("env_vars: the value of {} holds a NUL byte", said(name))));
        }
        bytes += name.len() + value.len() + 2;
    }
    if bytes > MAX_BYTES {
        return Err(invalid(format!("env_vars: more than {MAX_BYTES} bytes; pass data in the image")));
    }
    Ok(())
}

pub(in crate::execute) fn check_path(path: String) -> Result<String, Failed> {
    if path.starts_with('/') && path.len() <= MAX_PATH && !path.chars().any(char::is_control) {
        return Ok(path);
    }
    Err(invalid(format!("parameter \"working_dir\" is no absolute path: {:?}", said(&path))))
}

/// A command that ended with this code, which is not 0. `out_of_memory`: something in the container was ended for using too much
/// memory. `line`: the last that it said, as [`super::output::last_line`] gives it.
pub(in crate::execute) fn failed_command(exit_code: i64, out_of_memory: bool, line: &str) -> Failed {
    if exit_code == KILLED && out_of_memory {
        return Failed::permanent(
            code::OUT_OF_MEMORY,
            "the container was ended for using more than its memory (exit code 137); raise `memory_limit`",
        );
    }
    // Whoever runs it does not always hear of the kernel's reason before it hears of the end.
    let hint = match (exit_code, out_of_memory) {
        (KILLED, _) => " (killed; was `memory_limit` too low?)",
        (_, true) => " (something in it was ended for using too much memory; was `memory_limit` too low?)",
        _ => "",
    };
    Failed::permanent(code::EXECUTION_FAILED, format!("the command ended with exit code {exit_code}{hint}{line}"))
}

/// Whether `words`, which say why a container could not be started, are about the program that the ticket names. Files of the
/// node's own can be missing, too.
pub(in crate::execute) fn is_about_command(words: &str) -> bool {
    let lower = words.to_ascii_lowercase();
    let says = |some: &[&str]| some.iter().any(|word| lower.contains(word));
    (says(&["exec:", "chdir to cwd"]) && says(&["no such file or directory", "permission denied"]))
        || says(&["executable file not found", "exec format error"])
}
