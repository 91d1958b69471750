//! From answers of the API server to faults of the protocol. Its words decide nothing but who is at fault.

use std::time::Duration;

use serde_json::Value;
use ticket_workflows::code;

use super::access::no_credentials;
use crate::external::{Fault, reasons, said};

/// What Pod Security and LimitRanges say of what a pod is and asks for: it is never admitted.
const ABOUT_THE_POD: [&str; 3] = ["violates podsecurity", " usage per ", " ratio per "];
/// How webhooks, validating and mutating policies, and image policies say no.
const DENIALS: [&str; 4] =
    ["denied the request", "denied request", "request denied by policy", "denied one or more images"];

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Error {
    /// There is no answer, or none that can be used.
    NoAnswer(Fault),
    /// The answer has more than so many bytes.
    TooLong(usize),
    /// The answer is no.
    Refused(Refusal),
}

/// An answer that is an error.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `Status.reason`: `AlreadyExists`, `NotFound`, `Forbidden`, …
    reason: String,
    /// `Status.details.kind`: which resource it is about.
    kind: String,
    message: String,
    /// `Retry-After`.
    after: Option<Duration>,
    /// A proxy's words, not the API server's.
    is_page: bool,
}

impl Refusal {
    pub(super) fn read(status: u16, after: Option<Duration>, body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Object(told)) if told.get("kind").is_some_and(|kind| kind == "Status") => {
                let text = |value: Option<&Value>| value.and_then(Value::as_str).map(said).unwrap_or_default();
                let kind = text(told.get("details").and_then(|details| details.get("kind")));
                let (reason, message) = (text(told.get("reason")), text(told.get("message")));
                Self { status, reason, kind, message, after, is_page: false }
            }
            _ => {
                let message = said(&String::from_utf8_lossy(body));
                Self { status, message, after, is_page: true, ..Self::default() }
            }
        }
    }

    fn names(&self, words: &str) -> bool {
        !self.is_page && self.message.to_ascii_lowercase().contains(words)
    }

    /// Whether an admission webhook or policy says no, with whatever status it likes.
    fn is_denied_by_a_rule(&self) -> bool {
        DENIALS.iter().any(|words| self.names(words))
    }

    /// What is not there, as the API server says.
    fn is_missing(&self, kind: &str) -> bool {
        self.status == 404 && self.reason == "NotFound" && self.kind == kind
    }

    fn fault(self) -> Fault {
        let cause = format!("the API server answered {}: {}", self.status, self.message);
        match self.status {
            // The API server itself says so in plain words.
            429 => Fault::Deferred { cause, after: self.after },
            // A proxy says 503 of a call that it has passed on, too.
            _ if self.is_page => Fault::Lost { cause },
            503 => Fault::Unavailable { cause, after: self.after },
            404 if self.is_missing("jobs") => Fault::Vanished { cause },
            404 if self.is_missing("namespaces") => Fault::SetupRefused { cause },
            // Of what the call names: a webhook that fails, a conflict with another writer, a kubelet's answer.
            404 | 409 | 410 | 500 => Fault::Errored { cause },
            501.. => Fault::Lost { cause },
            _ => Fault::SetupRefused { cause },
        }
    }
}

impl Error {
    /// The status of an answer, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::NoAnswer(_) | Self::TooLong(_) => None,
        }
    }

    /// Whether somebody holds the name.
    pub(super) fn is_name_taken(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 409 && refusal.reason == "AlreadyExists")
    }

    /// Whether a rule of the cluster cannot be asked without its consequences.
    pub(super) fn is_no_dry_run(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 400 && refusal.names("does not support dry run"))
    }

    /// A call that was not answered.
    pub(super) fn of_call(error: &kube::Error) -> Self {
        let connecting = |error: &kube::Error| match error {
            kube::Error::Service(cause) => {
                cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|it| it.is_connect())
            }
            _ => false,
        };
        let renewing = |error: &kube::Error| match error {
            kube::Error::Service(cause) => cause.downcast_ref().map(no_credentials),
            _ => None,
        };
        Self::NoAnswer(match error {
            kube::Error::Auth(error) => no_credentials(error),
            _ if connecting(error) => Fault::Unavailable {
                cause: format!("the API server cannot be reached: {}", reasons(error)),
                after: None,
            },
            _ => renewing(error)
                .unwrap_or_else(|| Fault::Lost { cause: format!("no answer from the API server: {}", reasons(error)) }),
        })
    }

    /// An answer that is not what was asked for.
    pub(super) fn malformed(what: &str) -> Self {
        Self::NoAnswer(Fault::Malformed {
            cause: format!("the API server's answer is not Kubernetes': {}", said(what)),
        })
    }
}

/// The fault of any call; what a status means for one call only is decided where it is made.
pub(super) fn fault(error: Error) -> Fault {
    match error {
        Error::NoAnswer(fault) => fault,
        Error::TooLong(most) => {
            Fault::Malformed { cause: format!("the API server's answer has more than {most} bytes") }
        }
        Error::Refused(refusal) => refusal.fault(),
    }
}

/// The fault of a call that carries what the ticket asks for: what the cluster has no room for is told from what it does not
/// admit, and both from what this worker may not do.
pub(super) fn of_asked(error: Error) -> Fault {
    let refusal = match error {
        Error::Refused(refusal) if !refusal.is_page => refusal,
        other => return fault(other),
    };
    let cause = |what: &str| format!("{what}: {}", refusal.message);
    match refusal.status {
        // A rule of the installation's own may take a pod of a Job and none that stands alone, and may be changed.
        400..=499 if refusal.is_denied_by_a_rule() => Fault::Denied {
            cause: format!(
                "{}; see K8S_JOBS_TRIAL if it is about pods that no Job owns",
                cause("a rule of the cluster denies the pod")
            ),
        },
        422 => {
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause: cause("the API server takes no such pod") }
        }
        403 if refusal.names("exceeded quota") => {
            Fault::SetupRefused { cause: cause("the namespace's quota is used up") }
        }
        403 if ABOUT_THE_POD.iter().any(|words| refusal.names(words)) => {
            Fault::TicketRefused { code: code::PROVIDER_REFUSED, cause: cause("the cluster does not admit such a pod") }
        }
        // A permission, a service account, a namespace that is going away, an API server that is not ready to judge.
        _ => refusal.fault(),
    }
}

/// The fault of the create itself: here an answer 400 is the ticket's fault, too.
pub(super) fn of_create(error: Error) -> Fault {
    match error {
        Error::Refused(refusal) if refusal.status == 400 && !refusal.is_page && !refusal.is_denied_by_a_rule() => {
            let cause = format!("the API server answered 400: {}", refusal.message);
            Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause }
        }
        other => of_asked(other),
    }
}

/// The fault of reading a pod's log: a pod that is gone has none, and will never have one again.
pub(super) fn of_log(error: Error) -> Fault {
    match error {
        Error::Refused(refusal) if matches!(refusal.status, 400 | 404) && !refusal.is_page => {
            Fault::Vanished { cause: format!("the pod has no log: {}", refusal.message) }
        }
        other => fault(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(status: u16, reason: &str, kind: &str, message: &str) -> Error {
        let body = json!({
            "kind": "Status", "status": "Failure", "reason": reason, "code": status, "message": message,
            "details": { "kind": kind },
        });
        Error::Refused(Refusal::read(status, None, body.to_string().as_bytes()))
    }

    fn page(status: u16) -> Error {
        Error::Refused(Refusal::read(status, None, b"<html>\x1b[2JBad Gateway</html>"))
    }

    #[test]
    fn every_answer_has_its_fault() {
        for (code, kind) in [
            (400, "SetupRefused"),
            (401, "SetupRefused"),
            (403, "SetupRefused"),
            (404, "Errored"),
            (409, "Errored"),
            (410, "Errored"),
            (422, "SetupRefused"),
            (429, "Deferred"),
            (500, "Errored"),
            (503, "Unavailable"),
            (504, "Lost"),
        ] {
            let fault = fault(status(code, "", "", "words"));
            assert!(format!("{fault:?}").starts_with(kind), "{code}: {fault:?}");
            assert!(fault.to_string().contains(&code.to_string()), "{fault}");
        }
        for code in [400, 403, 404, 500, 502, 503] {
            let fault = fault(page(code));
            assert!(matches!(fault, Fault::Lost { .. }) && !fault.to_string().contains('\u{1b}'), "{code}: {fault:?}");
        }
        assert!(matches!(fault(status(404, "NotFound", "jobs", "jobs.batch \"x\" not found")), Fault::Vanished { .. }));
        assert!(matches!(fault(status(404, "NotFound", "namespaces", "")), Fault::SetupRefused { .. }));
        assert!(status(409, "AlreadyExists", "jobs", "").is_name_taken());
        assert!(!status(409, "Conflict", "jobs", "").is_name_taken());
        let after = Some(Duration::from_secs(7));
        let throttled = Error::Refused(Refusal::read(429, after, b"Too many requests, please try again later."));
        assert!(matches!(fault(throttled), Fault::Deferred { after: it, .. } if it == after));
        let of_a_gateway = Error::Refused(Refusal::read(503, None, br#"{"message":"upstream connect error"}"#));
        assert!(matches!(fault(of_a_gateway), Fault::Lost { .. }), "it may have passed the call on");
    }

    #[test]
    fn quota_admission_and_permission_are_told_apart() {
        let of = |message: &str| of_asked(status(403, "Forbidden", "pods", message));
        let quota = of("pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5");
        assert!(matches!(&quota, Fault::SetupRefused { cause } if cause.contains("quota is used up")), "{quota:?}");
        for set_up in [
            "pods is forbidden: User \"w\" cannot create resource \"pods\" in API group \"\" in the namespace \"n\"",
            "pods \"x\" is forbidden: error looking up service account n/s: serviceaccount \"s\" not found",
            "pods \"x\" is forbidden: unable to create new content in namespace n because it is being terminated",
            "pods \"x\" is forbidden: not yet ready to handle request",
            "pods \"x\" is forbidden: status unknown for quota: q, resources: pods",
            "pods \"x\" is forbidden: insufficient quota to consume: pods",
            "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: executor",
            "unable to CREATE pods at this time because there was an error enforcing limit ranges",
        ] {
            assert!(matches!(of(set_up), Fault::SetupRefused { .. }), "{set_up}");
        }
        for admission in [
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": seccompProfile",
            "pods \"x\" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi",
            "pods \"x\" is forbidden: minimum cpu usage per Pod is 1, but request is 100m",
            "pods \"x\" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 10.000000",
        ] {
            let fault = of(admission);
            assert!(
                matches!(fault, Fault::TicketRefused { code: code::PROVIDER_REFUSED, .. }),
                "{admission}: {fault:?}"
            );
        }
        let by_webhook = "admission webhook \"validate.kyverno.svc\" denied the request: bare pods are not allowed";
        let by_policy = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: bare pods are not allowed";
        let by_mutating = "pods \"x\" is forbidden: admission request denied by policy: bare pods are not allowed";
        let by_image =
            "pods \"x\" is forbidden: image policy webhook backend denied one or more images: bare pods are unsigned";
        for (code, words) in
            [(403, by_webhook), (400, by_webhook), (422, by_policy), (403, by_mutating), (403, by_image)]
        {
            for fault in [of_asked(status(code, "", "", words)), of_create(status(code, "", "", words))] {
                assert!(matches!(&fault, Fault::Denied { cause } if cause.contains("bare pods")), "{code}: {fault:?}");
            }
        }
        let invalid = of_asked(status(422, "Invalid", "Pod", "spec.containers[0].env[0].name: Invalid value"));
        assert!(matches!(invalid, Fault::TicketRefused { code: code::INVALID_PARAMETERS, .. }), "{invalid:?}");
        assert!(matches!(of_asked(page(403)), Fault::Lost { .. }));
        assert!(matches!(of_asked(status(400, "", "", "bad")), Fault::SetupRefused { .. }));
        assert!(matches!(of_create(status(400, "", "", "bad")), Fault::TicketRefused { .. }));
        assert!(matches!(of_create(page(400)), Fault::Lost { .. }));
        assert!(status(400, "BadRequest", "", "admission webhook \"w\" does not support dry run").is_no_dry_run());
    }

    #[test]
    fn a_log_that_will_never_be_there_is_not_asked_for_again() {
        let waiting = "container \"executor\" in pod \"p\" is waiting to start: ImagePullBackOff";
        assert!(matches!(of_log(status(400, "BadRequest", "", waiting)), Fault::Vanished { .. }));
        assert!(matches!(of_log(status(404, "NotFound", "pods", "pods \"p\" not found")), Fault::Vanished { .. }));
        assert!(matches!(of_log(page(404)), Fault::Lost { .. }));
        assert!(matches!(of_log(status(500, "InternalError", "", "kubelet")), Fault::Errored { .. }));
    }
}
