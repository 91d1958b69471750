//! AWS Lambda: a command as the payload of a function's invocation (`contracts/executors.md`, EXECUTE, Lambda).
//!
//! An invocation is one call, answered when the function has ended, and that answer is given to nobody else: Lambda takes no key,
//! finds nothing and ends nothing. So a function is invoked once by an attempt, is told by which attempt of which ticket, so that
//! it can recognise a repetition, work whose worker is lost is `unknown`, and an answer that is lost is final (INC-44,
//! `docs/adr/0032-aws-lambda.md`). A ticket names the functions that settings allow (INC-77).

mod answer;
mod api;
mod function;
mod params;
mod payload;
mod runtime;
mod usage;

pub use api::{Invocation, InvocationType, Lambda, Reply};
pub use function::{FunctionName, FunctionPattern, InvalidFunctionName};
pub use params::LambdaParams;
pub use runtime::{LambdaConfig, LambdaRuntime, Running};
pub use usage::Usage;
