//! From the client's errors to faults of the protocol. The engine's words decide nothing but who is at fault.

use bollard::errors::Error;
use ticket_workflows::code;

use crate::execute::container::is_about_command;
use crate::execute::image::{NOT_FOR_EVERYBODY, NOT_THERE};
use crate::external::{Fault, reasons, said};

/// The fault of any call; what a status means for one call only is decided where it is made.
pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::DockerResponseServerError { status_code, message } => answered(status_code, &message),
        Error::SocketNotFoundError(path) => {
            Fault::Unavailable { cause: format!("no engine at {path}: the socket does not exist"), after: None }
        }
        Error::HyperLegacyError { err } if err.is_connect() => {
            Fault::Unavailable { cause: format!("the engine cannot be reached: {}", reasons(&err)), after: None }
        }
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. } => {
            Fault::Malformed { cause: format!("the engine's answer is not Docker's: {}", said(&error.to_string())) }
        }
        Error::APIVersionParseError {} => {
            Fault::Malformed { cause: "the engine's answer names no version of its API".to_owned() }
        }
        other => Fault::Lost { cause: format!("no answer from the engine: {}", reasons(&other)) },
    }
}

/// An answer that is an error. The engine itself never says when to come again.
fn answered(status: u16, message: &str) -> Fault {
    let cause = format!("the engine answered {status}: {}", said(message));
    match status {
        // A proxy says 503 of a call that it has passed on, too.
        400 | 503 if is_page(message) => Fault::Lost { cause },
        404 if names(message, "no such container") => Fault::Vanished { cause },
        // Of something between the engine and this worker.
        404 if is_page(message) => Fault::Lost { cause },
        // The engine's own, of something that the call names.
        404 => Fault::Errored { cause },
        429 => Fault::Deferred { cause, after: None },
        503 => Fault::Unavailable { cause, after: None },
        500 if !is_page(message) => Fault::Errored { cause },
        500.. => Fault::Lost { cause },
        _ => Fault::SetupRefused { cause },
    }
}

/// A proxy's words, not the engine's.
fn is_page(message: &str) -> bool {
    message.trim_start().starts_with('<')
}

fn names(message: &str, what: &str) -> bool {
    !is_page(message) && message.to_ascii_lowercase().contains(what)
}

/// Whether the engine does not speak the version of the API that was agreed on: it is another one than before.
pub(super) fn is_other_version(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 400, message }
        if names(message, "client version") && (names(message, "too old") || names(message, "too new")))
}

/// Whether the engine says that it does not have the image.
pub(super) fn is_missing_image(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, message } if names(message, "no such image"))
}

/// The fault of a call that carries what the ticket asks for: here an answer 400 is the ticket's fault.
pub(super) fn of_asked(error: Error) -> Fault {
    match &error {
        Error::DockerResponseServerError { status_code: 400, message }
            if !is_page(message) && !is_other_version(&error) =>
        {
            let cause = format!("the engine answered 400: {}", said(message));
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause }
        }
        _ => fault(error),
    }
}

/// The status of an answer, if there was one.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The fault of a pull. Nothing was created, so nothing is in doubt. The engine has just answered whether it has the image: what
/// goes wrong now is the image's or its registry's, unless nobody takes the call any more.
pub(super) fn of_pull(image: &str, error: Error) -> Fault {
    let text = match &error {
        Error::DockerStreamError { error } | Error::DockerResponseServerError { message: error, .. }
            if !is_page(error) =>
        {
            said(error)
        }
        _ => String::new(),
    };
    let says = |words: &[&str]| words.iter().any(|word| text.to_ascii_lowercase().contains(word));
    let cause =
        format!("image {image} cannot be pulled: {}", if text.is_empty() { reasons(&error) } else { text.clone() });
    if says(&["toomanyrequests", "too many requests", "rate limit"]) {
        return Fault::Deferred { cause, after: None };
    }
    // A registry does not tell an image that is not there from one that is not for everybody.
    if says(&NOT_THERE) {
        return Fault::TicketRefused { code: code::IMAGE_NOT_AVAILABLE, cause };
    }
    if says(&NOT_FOR_EVERYBODY) {
        return Fault::SetupRefused { cause };
    }
    let is_untaken = matches!(status(&error), Some(502 | 504));
    match of_asked(error) {
        Fault::TicketRefused { .. } => Fault::TicketRefused { code: code::IMAGE_NOT_AVAILABLE, cause },
        Fault::SetupRefused { .. } => Fault::SetupRefused { cause },
        fault if is_untaken || matches!(fault, Fault::Unavailable { .. }) => Fault::Unavailable { cause, after: None },
        _ => Fault::Deferred { cause, after: None },
    }
}

/// The fault of a start. The engine reports a program that cannot be run as the container's fault.
pub(super) fn of_start(error: Error) -> Fault {
    let message = match &error {
        Error::DockerResponseServerError { message, .. } => said(message),
        _ => String::new(),
    };
    let cause = format!("the container cannot start: {message}");
    if !is_page(&message) && is_about_command(&message) {
        return Fault::TicketRefused { code: code::COMMAND_NOT_FOUND, cause };
    }
    match status(&error) {
        Some(404) if names(&message, "network") && names(&message, "not found") => {
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause }
        }
        // The engine itself has tried and says so: nothing is under way any more.
        Some(500) if !is_page(&message) => Fault::Deferred { cause, after: None },
        _ => fault(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[test]
    fn every_answer_has_its_fault() {
        for (status, kind) in [
            (400, "Lost"),
            (401, "SetupRefused"),
            (403, "SetupRefused"),
            (404, "Lost"),
            (405, "SetupRefused"),
            (409, "SetupRefused"),
            (429, "Deferred"),
            (500, "Lost"),
            (502, "Lost"),
            (503, "Lost"),
            (504, "Lost"),
        ] {
            let fault = fault(server(status, "<html>\u{1b}[2J"));
            assert!(format!("{fault:?}").starts_with(kind), "{status}: {fault:?}");
            assert!(fault.to_string().contains(&status.to_string()));
            assert!(!fault.to_string().contains('\u{1b}'), "control codes are gone");
        }
        assert!(matches!(fault(server(503, "the engine starts")), Fault::Unavailable { .. }));
        assert!(matches!(fault(server(400, "bad parameter")), Fault::SetupRefused { .. }));
        assert!(matches!(fault(server(500, "layer does not exist")), Fault::Errored { .. }));
        assert!(matches!(fault(server(404, "No such container: abc")), Fault::Vanished { .. }));
        for of_call in ["page not found", "network x not found", "No such image: x:1"] {
            let fault = fault(server(404, of_call));
            assert!(matches!(fault, Fault::Errored { .. }), "{fault:?}");
            assert!(fault.is_ambiguous() && !fault.blames_endpoint(), "{fault:?}");
        }
        assert!(matches!(fault(server(404, "<html>No such container</html>")), Fault::Lost { .. }));
        assert!(matches!(fault(Error::RequestTimeoutError), Fault::Lost { .. }));
        assert!(matches!(fault(Error::SocketNotFoundError("/x".to_owned())), Fault::Unavailable { .. }));
        let cut = serde_json::from_str::<u8>("{\"Id\":").expect_err("cut");
        assert!(matches!(fault(Error::from(cut)), Fault::Malformed { .. }));
    }

    #[test]
    fn a_bad_request_is_the_tickets_fault_only_where_the_engine_was_asked_for_what_the_ticket_says() {
        assert!(matches!(of_asked(server(400, "invalid CPU")), Fault::TicketRefused { .. }));
        assert!(matches!(of_asked(server(400, "<html>Bad Request</html>")), Fault::Lost { .. }));
        for version in ["client version 1.12 is too old. Minimum", "client version 1.53 is too new. Maximum"] {
            assert!(is_other_version(&server(400, version)));
            assert!(matches!(of_asked(server(400, version)), Fault::SetupRefused { .. }), "{version}");
        }
        assert!(is_missing_image(&server(404, "No such image: x:1")));
        assert!(!is_missing_image(&server(404, "<html>404 Not Found</html>")));
    }

    #[test]
    fn a_pull_says_whether_ticket_set_up_or_registry_is_at_fault() {
        for (message, kind) in [
            ("manifest for x:1 not found: manifest unknown", "TicketRefused"),
            ("pull access denied for x, repository does not exist or may require 'docker login'", "TicketRefused"),
            ("unauthorized: authentication required", "SetupRefused"),
            ("toomanyrequests: You have reached your pull rate limit", "Deferred"),
            ("Get https://registry: dial tcp: lookup registry: no such host", "Deferred"),
        ] {
            let fault = of_pull("x:1", server(500, message));
            assert!(format!("{fault:?}").starts_with(kind), "{message}: {fault:?}");
            let streamed = of_pull("x:1", Error::DockerStreamError { error: message.to_owned() });
            assert_eq!(std::mem::discriminant(&fault), std::mem::discriminant(&streamed), "{message}");
        }
        let full = "failed to register layer: no space left on device";
        let streamed = of_pull("x", Error::DockerStreamError { error: full.to_owned() });
        assert!(matches!(streamed, Fault::Deferred { .. }), "it is the image's: {streamed:?}");
        assert!(matches!(of_pull("x", server(429, "slow down")), Fault::Deferred { .. }));
        assert!(matches!(of_pull("x", server(404, "<html>404 Not Found</html>")), Fault::Deferred { .. }));
        assert!(matches!(of_pull("x", server(400, "invalid reference format")), Fault::TicketRefused { .. }));
    }

    #[test]
    fn a_pull_blames_no_engine_that_has_taken_it() {
        let unread = serde_json::from_str::<u8>("<html>").expect_err("no number");
        for error in [
            // A registry that says nothing keeps the engine waiting, and the engine this worker.
            Error::RequestTimeoutError,
            Error::from(unread),
            server(500, "a layer's digest is another one"),
            server(500, "<html>500 Internal Server Error</html>"),
        ] {
            let fault = of_pull("x:1", error);
            assert!(matches!(fault, Fault::Deferred { .. }), "{fault:?}");
        }
    }

    #[test]
    fn a_pull_that_nobody_takes_is_the_engines_fault() {
        let gone = of_pull("x:1", Error::SocketNotFoundError("/x".to_owned()));
        assert!(matches!(gone, Fault::Unavailable { .. }), "{gone:?}");
        for (status, message) in [
            (502, "Bad Gateway"),
            (502, "<html>502 Bad Gateway</html>"),
            (503, "https://engine is starting"),
            (504, ""),
        ] {
            let fault = of_pull("x:1", server(status, message));
            assert!(matches!(fault, Fault::Unavailable { .. }), "{status} {message}: {fault:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_run_is_the_tickets_fault_and_a_container_that_is_gone_is_not() {
        let missing = "OCI runtime create failed: exec: \"x\": executable file not found in $PATH: unknown";
        let of = |status, message| of_start(server(status, message));
        for of_command in [
            missing,
            "starting container process caused: exec: \"/x\": stat /x: no such file or directory: unknown",
            "exec: \"/etc/passwd\": permission denied: unknown",
            "chdir to cwd (\"/x\") set in config.json failed: no such file or directory: unknown",
            "standard_init_linux.go: exec user process caused: exec format error",
        ] {
            let fault = of(500, of_command);
            assert!(
                matches!(fault, Fault::TicketRefused { code: code::COMMAND_NOT_FOUND, .. }),
                "{of_command}: {fault:?}"
            );
        }
        for of_engine in ["mount /var/lib/docker: permission denied", "open /run/containerd: no such file or directory"]
        {
            assert!(matches!(of(500, of_engine), Fault::Deferred { .. }), "{of_engine}");
        }
        assert!(matches!(of(400, missing), Fault::TicketRefused { code: code::COMMAND_NOT_FOUND, .. }));
        assert!(matches!(of(404, "network x not found"), Fault::TicketRefused { code: code::INVALID_PARAMETERS, .. }));
        assert!(matches!(of(404, "No such container: abc"), Fault::Vanished { .. }));
        assert!(matches!(of(500, "containerd is away"), Fault::Deferred { .. }));
        assert!(matches!(of(502, "<html>Bad Gateway</html>"), Fault::Lost { .. }));
        assert!(matches!(of(404, "<html>Not Found</html>"), Fault::Lost { .. }));
    }
}
