//! Marks the calls that leave this process: to Kafka, Temporal, the Schema Registry, a supervisor, a command. Whatever is
//! true only in memory is lost when the process dies beside one of them, so a chaos run kills it there.
//!
//! Without the feature `failpoints` a mark is nothing at all. `tests/failpoints.rs` finds calls without one.

#[cfg(feature = "failpoints")]
use crate::failpoints::{Moment, pass};

/// A call that is awaited. `name` is one of [`crate::failpoints::BORDERS`].
#[cfg(feature = "failpoints")]
pub async fn border<F: Future>(name: &'static str, call: F) -> F::Output {
    pass(name, Moment::Before);
    let answer = call.await;
    pass(name, Moment::After);
    answer
}

/// A call that is awaited. The name counts in builds with failpoints only.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn border<F: Future>(_: &'static str, call: F) -> F {
    call
}

/// As [`border`], of a call that is not awaited: the library sends, or waits, by itself.
#[inline]
pub fn border_call<T>(name: &'static str, call: impl FnOnce() -> T) -> T {
    #[cfg(feature = "failpoints")]
    pass(name, Moment::Before);
    let answer = call();
    #[cfg(feature = "failpoints")]
    pass(name, Moment::After);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
    answer
}
