//! What can go wrong with a provider, as a type: what follows from it is decided by the driver.

use std::time::Duration;

use ticket_workflows::{ExternalState, Failed, FailureClass, code};

/// Characters kept of what a peer said.
const MAX_SAID: usize = 300;

/// Why a call to a provider brought nothing. Causes are for people: made with [`said`] where a peer's words are in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The call was not taken: nobody is at the address, or nobody is served there now (503).
    #[error("{cause}")]
    Unavailable {
        /// What was seen.
        cause: String,
        /// The provider's `Retry-After`.
        after: Option<Duration>,
    },
    /// The call was not taken by an endpoint that is well: this worker asks too often (429), or what the call needs of somebody
    /// else is not to be had now, such as an image of a registry that is away.
    #[error("{cause}")]
    Deferred {
        /// What was seen.
        cause: String,
        /// The provider's `Retry-After`.
        after: Option<Duration>,
    },
    /// An answer says that the call went wrong (500 in the provider's own words, or a status that it has no such answer for): what
    /// was asked for may be the reason, and the call may have been taken.
    #[error("{cause}")]
    Errored {
        /// What was seen.
        cause: String,
    },
    /// There is no answer of the provider's, and the call may have been taken: reset, time-out, 502, 504.
    #[error("{cause}")]
    Lost {
        /// What was seen.
        cause: String,
    },
    /// There is an answer that the provider's format does not know; the call may have been taken.
    #[error("{cause}")]
    Malformed {
        /// What was seen.
        cause: String,
    },
    /// The provider refuses what the ticket asks for, and always will.
    #[error("{cause}")]
    TicketRefused {
        /// One of [`code::ALL`].
        code: &'static str,
        /// What is refused, and what to change.
        cause: String,
    },
    /// The provider refuses this worker: credentials, permission, quota, a name that somebody else holds.
    #[error("{cause}")]
    SetupRefused {
        /// What is refused, and what to change.
        cause: String,
    },
    /// A rule of the provider's forbids what the ticket asks for, as the rule stands now. That is an answer: nobody else is to do
    /// what it forbids.
    #[error("{cause}")]
    Denied {
        /// What is forbidden, and what to change.
        cause: String,
    },
    /// There is no such work at the provider.
    #[error("{cause}")]
    Vanished {
        /// What was seen.
        cause: String,
    },
    /// The provider has no call for what is asked.
    #[error("{cause}")]
    Unsupported {
        /// What it has no call for, and what is known all the same.
        cause: String,
    },
}

impl Fault {
    /// Nothing was heard in this time.
    pub(crate) fn no_answer(longest: Duration) -> Self {
        Self::Lost { cause: format!("no answer within {:.1} s", longest.as_secs_f64()) }
    }

    /// Whether the same call may be answered later.
    pub(super) fn passes(&self) -> bool {
        !matches!(self, Self::TicketRefused { .. } | Self::Vanished { .. } | Self::Unsupported { .. })
    }

    /// Whether the call may have been taken all the same.
    pub(crate) fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Errored { .. } | Self::Lost { .. } | Self::Malformed { .. })
    }

    /// Whether the endpoint did not answer as it should, whoever asks for what. What it refuses it has answered.
    pub(crate) fn blames_endpoint(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Lost { .. } | Self::Malformed { .. })
    }

    /// When the provider wants to be asked again.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { after, .. } | Self::Deferred { after, .. } => *after,
            _ => None,
        }
    }

    /// The failure of an attempt whose work cannot be begun, or went away. `state`: what is known of the work.
    pub(crate) fn into_failed(self, provider: &str, state: Option<ExternalState>) -> Failed {
        let (code, class, advice) = match &self {
            Self::TicketRefused { code, .. } => (*code, FailureClass::Permanent, "correct the ticket"),
            Self::SetupRefused { .. } => (
                code::PROVIDER_REFUSED,
                FailureClass::Unavailable { after_ms: None },
                "correct this worker's access to the provider",
            ),
            Self::Denied { .. } => {
                (code::PROVIDER_REFUSED, FailureClass::Retry { after_ms: None }, "correct the ticket or the rule")
            }
            Self::Vanished { .. } => (
                code::WORK_VANISHED,
                FailureClass::Retry { after_ms: None },
                "find out who removed it; how far it came is not known",
            ),
            // A provider answers so to a stop, which is no attempt's failure.
            Self::Unsupported { .. } => (code::INTERNAL, FailureClass::Permanent, "this is a defect, report it"),
            Self::Unavailable { .. }
            | Self::Deferred { .. }
            | Self::Errored { .. }
            | Self::Lost { .. }
            | Self::Malformed { .. } => (
                code::PROVIDER_UNAVAILABLE,
                FailureClass::Unavailable {
                    after_ms: self.after().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
                },
                "look at the provider and at what is between it and this worker",
            ),
        };
        let mut failed = Failed::new(code, class, format!("{provider}: {self}; {advice}"));
        failed.external_state = state;
        failed
    }
}

/// A peer's words, fit for messages and logs: one line, bounded, without control codes.
#[must_use]
pub fn said(text: &str) -> String {
    let mut words = String::new();
    for (at, c) in text.trim_matches(|c: char| c.is_whitespace() || c.is_control()).chars().enumerate() {
        if at == MAX_SAID {
            words.push('…');
            break;
        }
        words.push(if c.is_control() { ' ' } else { c });
    }
    words
}

/// An error and what it was caused by, in one line.
#[must_use]
pub fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    said(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_are_one_bounded_line_without_control_codes() {
        assert_eq!(said(" <html>\r\n\u{1b}[31mno\0 "), "<html>   [31mno");
        let long = said(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), MAX_SAID + 1);
    }

    #[test]
    fn each_fault_has_its_code_class_and_advice() {
        let cause = || "the cause".to_owned();
        let after = Some(Duration::from_millis(1500));
        let unavailable = |after_ms| FailureClass::Unavailable { after_ms };
        for (fault, blames_endpoint, code, class) in [
            (Fault::Unavailable { cause: cause(), after }, true, code::PROVIDER_UNAVAILABLE, unavailable(Some(1500))),
            (Fault::Deferred { cause: cause(), after }, false, code::PROVIDER_UNAVAILABLE, unavailable(Some(1500))),
            (Fault::Errored { cause: cause() }, false, code::PROVIDER_UNAVAILABLE, unavailable(None)),
            (Fault::Lost { cause: cause() }, true, code::PROVIDER_UNAVAILABLE, unavailable(None)),
            (Fault::Malformed { cause: cause() }, true, code::PROVIDER_UNAVAILABLE, unavailable(None)),
            (
                Fault::TicketRefused { code: code::IMAGE_NOT_AVAILABLE, cause: cause() },
                false,
                code::IMAGE_NOT_AVAILABLE,
                FailureClass::Permanent,
            ),
            (Fault::SetupRefused { cause: cause() }, false, code::PROVIDER_REFUSED, unavailable(None)),
            (Fault::Denied { cause: cause() }, false, code::PROVIDER_REFUSED, FailureClass::Retry { after_ms: None }),
            (Fault::Vanished { cause: cause() }, false, code::WORK_VANISHED, FailureClass::Retry { after_ms: None }),
            (Fault::Unsupported { cause: cause() }, false, code::INTERNAL, FailureClass::Permanent),
        ] {
            assert_eq!(fault.blames_endpoint(), blames_endpoint, "{fault:?}");
            let failed = fault.into_failed("docker", Some(ExternalState::Unknown));
            assert_eq!((failed.code.as_str(), failed.class), (code, class), "{failed:?}");
            assert!(failed.message.starts_with("docker: the cause; "), "{}", failed.message);
            assert_eq!(failed.external_state, Some(ExternalState::Unknown));
        }
    }

    #[test]
    fn nobody_else_does_what_a_rule_forbids() {
        let cause = || "the image is not signed".to_owned();
        for (fault, goes_elsewhere) in
            [(Fault::Denied { cause: cause() }, false), (Fault::SetupRefused { cause: cause() }, true)]
        {
            let outcome = fault.into_failed("k8s", None).into();
            assert_eq!(crate::fallback::cause(&outcome).is_some(), goes_elsewhere, "{outcome:?}");
        }
    }
}
