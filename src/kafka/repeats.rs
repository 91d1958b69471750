//! An outage makes errors by the hundred; one of each kind a second is enough to know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An error with the same code is told once in so long.
const REPEAT: Duration = Duration::from_secs(1);

/// Which errors have just been told. librdkafka's errors stand in the queue before the assignment that ends an outage, so
/// none may be waited for; they are only told less often.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<String, Instant>);

impl Repeats {
    /// Whether an error with this code is to be told again.
    pub(crate) fn is_news(&mut self, code: &str, now: Instant) -> bool {
        let news = self.0.get(code).is_none_or(|told| now.duration_since(*told) >= REPEAT);
        if news {
            self.0.insert(code.to_owned(), now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_once_a_second_and_another_at_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let told = |repeats: &mut Repeats, code, ms| repeats.is_news(code, start + Duration::from_millis(ms));
        assert!(told(&mut repeats, "AllBrokersDown", 0));
        assert!(!told(&mut repeats, "AllBrokersDown", 999));
        assert!(told(&mut repeats, "Resolve", 999));
        assert!(told(&mut repeats, "AllBrokersDown", 1000));
        assert!(!told(&mut repeats, "AllBrokersDown", 1999));
    }
}
