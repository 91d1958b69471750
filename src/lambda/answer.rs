//! What Lambda's answers mean. An answer that something between it and this worker has made is told from its own.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_lambda::config::http::HttpResponse;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::RequestId as _;
use aws_sdk_lambda::operation::invoke::{InvokeError, InvokeOutput};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ticket_activities::code;
use ticket_activities::execute::lambda::{FunctionName, Reply};
use ticket_activities::external::{Fault, said};

use super::connector::CallError;
use crate::net;

/// The header with the id that Lambda gives each request.
const REQUEST_ID: &str = "x-amzn-requestid";
/// Of an answer that is quoted.
const MAX_QUOTED_BYTES: usize = 4 * 1024;
/// Error codes (AWS, `Invoke` and common errors) of calls that Lambda puts off: it is asked too often.
const THROTTLED: [&str; 5] =
    ["TooManyRequestsException", "ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded"];
/// Of functions that cannot be invoked at this moment: they are being changed, or what they need is not there yet.
const NOT_READY: [&str; 6] = [
    "ResourceConflictException",
    "ResourceNotReadyException",
    "SnapStartNotReadyException",
    "EC2ThrottledException",
    "EC2UnexpectedException",
    "ENINotReadyException",
];
/// Of functions that cannot be started as they are set up; beginnings.
const WRONG_FUNCTION: [&str; 11] = [
    "EC2AccessDenied",
    "EFSMountConnectivity",
    "EFSMountFailure",
    "EFSMountTimeout",
    "ENILimit",
    "InvalidRuntime",
    "InvalidSecurityGroup",
    "InvalidSubnet",
    "InvalidZipFile",
    "KMS",
    "SubnetIPAddressLimit",
];
/// Of functions that have run: while it did, one could not read or write its file system.
const HAS_RUN: &str = "EFSIOException";
/// Of requests that AWS does not take from this worker, whatever they ask for; beginnings, since some are called so with `Exception` at
/// their end and without.
const WRONG_CALLER: [&str; 11] = [
    "AccessDenied",
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignature",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];

/// What was asked for, as far as an answer may be about it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) function: &'a FunctionName,
    pub(super) named_by_ticket: bool,
    pub(super) region: &'a str,
    /// By which Lambda says that it has done what was asked for.
    pub(super) status: u16,
}

/// The answer to an invocation.
pub(super) fn of(
    answer: Result<InvokeOutput, SdkError<InvokeError, HttpResponse>>,
    asked: Asked<'_>,
) -> Result<Reply, Fault> {
    let error = match answer {
        Ok(output) => return reply(output, asked.status),
        Err(error) => error,
    };
    Err(match error.raw_response() {
        Some(raw) => Refusal::of(&error, raw).fault(asked),
        None => unanswered(&error),
    })
}

/// Any body is a function's answer, so only the id that Lambda gives each request tells its answers from those of a proxy, and only
/// the one status says that what was asked for was done.
fn reply(output: InvokeOutput, expected: u16) -> Result<Reply, Fault> {
    let status = u16::try_from(output.status_code()).unwrap_or_default();
    let payload = output.payload().map(|blob| blob.as_ref().to_vec()).unwrap_or_default();
    let Some(request_id) = output.request_id().map(said).filter(|id| !id.is_empty()) else {
        let cause =
            format!("{} (it has no id of a request; is LAMBDA_ENDPOINT_URL Lambda's?)", quoted(status, &payload));
        return Err(Fault::Malformed { cause });
    };
    if status != expected {
        return Err(Fault::Malformed { cause: format!("{}, where {expected} was due", quoted(status, &payload)) });
    }
    let function_error = output.function_error().map(said);
    Ok(Reply { request_id, status, function_error, payload, tail: tail(output.log_result()) })
}

/// The end of the function's log. One that cannot be read is none: nothing rests on it.
fn tail(log_result: Option<&str>) -> String {
    let decoded = log_result.map(|text| BASE64_STANDARD.decode(text));
    match decoded {
        None => String::new(),
        Some(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some(Err(error)) => {
            tracing::warn!(%error, "the end of a function's log is not base64");
            String::new()
        }
    }
}

/// An answer that is an error.
struct Refusal {
    status: u16,
    /// The code of the error; may be empty.
    code: String,
    /// Whether it is Lambda's: it has a code, and the id that Lambda gives each request. Gateways have errors in JSON too, also of
    /// requests that they have passed on.
    is_own: bool,
    after: Option<Duration>,
    text: String,
}

impl Refusal {
    fn of(error: &SdkError<InvokeError, HttpResponse>, raw: &HttpResponse) -> Self {
        let status = raw.status().as_u16();
        let body = raw.body().bytes().unwrap_or_default();
        let told = error.as_service_error().map(|error| error.meta());
        let code = told.and_then(|told| told.code()).unwrap_or_default().to_owned();
        let after = raw.headers().get("retry-after").and_then(net::after);
        let text = match told.and_then(|told| told.message()) {
            Some(message) => format!("Lambda answered {status}: {}", said(&[code.as_str(), message].join(" "))),
            None => quoted(status, body),
        };
        let is_own = !code.is_empty() && raw.headers().get(REQUEST_ID).is_some_and(|id| !id.is_empty());
        Self { status, code, is_own, after, text }
    }

    fn fault(self, asked: Asked<'_>) -> Fault {
        let Self { status, code, is_own, after, text: cause } = self;
        let is_one_of = |codes: &[&str]| is_own && codes.contains(&code.as_str());
        let begins_as = |codes: &[&str]| is_own && codes.iter().any(|begin| code.starts_with(begin));
        match status {
            _ if status == 429 || is_one_of(&THROTTLED) => Fault::Deferred { cause, after },
            _ if is_one_of(&NOT_READY) => Fault::Deferred { cause, after },
            _ if is_one_of(&[HAS_RUN]) => Fault::Errored { cause },
            _ if begins_as(&WRONG_CALLER) || begins_as(&WRONG_FUNCTION) => Fault::SetupRefused { cause },
            404 if is_one_of(&["ResourceNotFoundException"]) => missing(asked, &cause),
            300..=399 => Fault::SetupRefused {
                cause: format!("{cause}; no redirect is followed, set LAMBDA_ENDPOINT_URL to where it really is"),
            },
            // Whoever says so has passed on no whole request.
            413 => refused(cause),
            400 | 415 if is_own => refused(cause),
            401 | 403 | 405 | 407 => Fault::SetupRefused { cause },
            408 => Fault::Lost { cause },
            400..=499 if is_own => Fault::SetupRefused { cause },
            // Of something in between that minds what was asked for, such as a firewall, or that does not know the path.
            400..=499 => Fault::Errored { cause },
            500 if is_own => Fault::Errored { cause },
            503 if is_own => Fault::Unavailable { cause, after },
            // Of something in between, or of a service that is not well: it may have been carried out.
            _ => Fault::Lost { cause },
        }
    }
}

/// There is no such function: whoever named it is wrong.
fn missing(Asked { function, named_by_ticket, region, .. }: Asked<'_>, cause: &str) -> Fault {
    let cause = format!("function {function} is not in region {region}: {cause}");
    if named_by_ticket {
        return refused(format!("{cause}; name another one in \"function_name\", or create it"));
    }
    Fault::SetupRefused { cause: format!("{cause}; check LAMBDA_FUNCTION_NAME and LAMBDA_REGION") }
}

fn refused(cause: String) -> Fault {
    Fault::TicketRefused { code: code::INVALID_PARAMETERS, cause }
}

/// Status and text, for people.
fn quoted(status: u16, body: &[u8]) -> String {
    let start = &body[..body.len().min(MAX_QUOTED_BYTES)];
    format!("Lambda answered {status}: {}", said(&String::from_utf8_lossy(start)))
}

/// A call without an answer. What was not signed, or could not be connected to, has begun nothing. The outermost of what is known
/// decides: looking for credentials makes calls too.
fn unanswered(error: &SdkError<InvokeError, HttpResponse>) -> Fault {
    let why = said(&net::describe(error));
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(credentials) = inner.downcast_ref::<CredentialsError>() {
            return no_credentials(credentials);
        }
        match inner.downcast_ref::<CallError>() {
            Some(CallError::NotConnected(_)) => {
                return Fault::Unavailable { cause: format!("Lambda cannot be reached: {why}"), after: None };
            }
            Some(CallError::Unfit(_)) => return Fault::SetupRefused { cause: why },
            Some(CallError::Unreadable(_)) => return Fault::Malformed { cause: why },
            Some(CallError::Lost(_)) => break,
            None => cause = inner.source(),
        }
    }
    match error {
        // The SDK has found something wrong before it called anybody.
        SdkError::ConstructionFailure(_) => Fault::SetupRefused { cause: why },
        _ => Fault::Lost { cause: format!("no answer from Lambda: {why}") },
    }
}

fn no_credentials(error: &CredentialsError) -> Fault {
    let cause = format!("there are no credentials for AWS: {}", said(&net::describe(error)));
    match error {
        CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
            Fault::Unavailable { cause, after: None }
        }
        _ => Fault::SetupRefused {
            cause: format!(
                "{cause}; set LAMBDA_ACCESS_KEY and LAMBDA_SECRET_KEY, or give this worker an identity of AWS"
            ),
        },
    }
}
