//! What an invocation has cost, as the report at the end of its log tells.

use serde::Deserialize;
use serde_json::Value;

/// How much of what an invocation has used. `None`: the report does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time that is paid for, in milliseconds.
    pub billed_ms: Option<u64>,
    /// Memory that the function has, in MB.
    pub memory_mb: Option<u64>,
    /// Most memory that it used, in MB.
    pub memory_used_mb: Option<u64>,
}

/// The report of a function whose log is JSON.
#[derive(Deserialize)]
struct JsonReport {
    #[serde(rename = "type")]
    kind: String,
    record: Value,
}

impl Usage {
    /// What the end of a log says. Lambda writes the report last; a function that prints one like it before that changes nothing.
    #[must_use]
    pub fn of(tail: &str) -> Self {
        tail.lines().rev().find_map(|line| Self::of_text(line).or_else(|| Self::of_json(line))).unwrap_or_default()
    }

    /// `REPORT RequestId: …<tab>Duration: 123.45 ms<tab>Billed Duration: 124 ms<tab>Memory Size: 128 MB<tab>Max Memory Used: 64 MB`
    fn of_text(line: &str) -> Option<Self> {
        let report = line.strip_prefix("REPORT ")?;
        let number = |name: &str| {
            let field = report.split('\t').find_map(|field| field.trim().strip_prefix(name))?;
            field.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            billed_ms: number("Billed Duration"),
            memory_mb: number("Memory Size"),
            memory_used_mb: number("Max Memory Used"),
        })
    }

    fn of_json(line: &str) -> Option<Self> {
        let report: JsonReport = serde_json::from_str(line).ok()?;
        let number = |name: &str| report.record["metrics"][name].as_u64();
        (report.kind == "platform.report").then(|| Self {
            billed_ms: number("billedDurationMs"),
            memory_mb: number("memorySizeMB"),
            memory_used_mb: number("maxMemoryUsedMB"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_of_a_log_is_read_in_both_forms() {
        let told = Usage { billed_ms: Some(124), memory_mb: Some(128), memory_used_mb: Some(64) };
        let text = "START RequestId: 1 Version: $LATEST\n\
                    REPORT RequestId: forged\tBilled Duration: 1 ms\tMemory Size: 1 MB\tMax Memory Used: 1 MB\n\
                    END RequestId: 1\n\
                    REPORT RequestId: 1\tDuration: 123.45 ms\tBilled Duration: 124 ms\tMemory Size: 128 MB\t\
                    Max Memory Used: 64 MB\tInit Duration: 99.10 ms\t\n\n";
        assert_eq!(Usage::of(text), told);
        let json = r#"{"time":"2026-03-16T09:30:00.000Z","type":"platform.start","record":{"requestId":"1"}}
{"time":"2026-03-16T09:30:01.000Z","type":"platform.report","record":{"requestId":"1","metrics":{"durationMs":123.45,
"billedDurationMs":124,"memorySizeMB":128,"maxMemoryUsedMB":64},"status":"success"}}"#
            .replace(",\n", ",");
        assert_eq!(Usage::of(&json), told);
    }

    #[test]
    fn what_a_log_does_not_say_is_not_made_up() {
        for tail in ["", "hello\n", "REPORT", "{}", "{\"type\":\"platform.report\"}", "Billed Duration: 3 ms"] {
            assert_eq!(Usage::of(tail), Usage::default(), "{tail:?}");
        }
        let broken = "REPORT RequestId: 1\tBilled Duration: many ms\tMemory Size: -1 MB\tMax Memory Used: 64 MB";
        assert_eq!(Usage::of(broken), Usage { memory_used_mb: Some(64), ..Usage::default() });
    }
}
