//! The span of an invocation. It ends with the call, also where nobody waits for the answer any more: those that are cancelled, late
//! or handed back are the ones that somebody looks for.

use std::time::SystemTime;

use opentelemetry::trace::SpanKind;
use ticket_activities::execute::lambda::{Invocation, Reply};
use ticket_activities::external::Fault;
use ticket_activities::trace;
use ticket_workflows::TraceContext;

use crate::spans::{Span, Spans};

/// An invocation that is under way.
pub(super) struct Call<'a> {
    spans: &'a Spans,
    invocation: &'a Invocation,
    parent: TraceContext,
    own: TraceContext,
    began: SystemTime,
    is_over: bool,
}

impl<'a> Call<'a> {
    /// One that begins now.
    pub(super) fn begin(spans: &'a Spans, invocation: &'a Invocation) -> Self {
        let parent = trace::current();
        let own = spans.begin(&parent);
        Self { spans, invocation, parent, own, began: SystemTime::now(), is_over: false }
    }

    /// It was answered, or is known not to be.
    pub(super) fn end(mut self, answer: &Result<Reply, Fault>) {
        self.is_over = true;
        let span = match answer {
            Ok(reply) => self
                .span()
                .with("lambda.request_id", reply.request_id.clone())
                .with("lambda.status_code", i64::from(reply.status))
                .with("lambda.function_error", reply.function_error.clone().unwrap_or_default()),
            Err(fault) => self.span().failed(Some(error_type(fault))),
        };
        self.spans.end(span);
    }

    fn span(&self) -> Span {
        Span::new("lambda.invoke", &self.own, &self.parent, self.began)
            .kind(SpanKind::Client)
            .with("lambda.function_name", self.invocation.function.as_str().to_owned())
            .with("lambda.invocation_type", self.invocation.invocation_type.as_str())
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.spans.end(self.span().failed(Some("given_up")));
        }
    }
}

/// What a span says of a call that failed.
fn error_type(fault: &Fault) -> &'static str {
    match fault {
        Fault::Unavailable { .. } | Fault::Deferred { .. } => "unavailable",
        Fault::Errored { .. } | Fault::Lost { .. } => "lost",
        Fault::Malformed { .. } => "malformed",
        _ => "refused",
    }
}
