//! One JSON line a figure, on standard output.

use serde_json::{Value, json};

use crate::compare::Comparison;
use crate::meter::Cpu;

/// Above this, the bare loop was held back by something and is no measure.
const IMPLAUSIBLE: f64 = 1.1;

/// Which way a figure is better. Its ratio is turned so that 1 is as good as bare and more is better.
#[derive(Clone, Copy)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// Prints figures of one server.
pub(crate) struct Reporter {
    server: String,
}

impl Reporter {
    pub(crate) fn new(server: String) -> Self {
        Self { server }
    }

    /// Prints the limits that all figures were measured under.
    pub(crate) fn limits(&self, limits: &Value) {
        println!("{}", json!({ "limits": limits, "server": self.server, "load": load() }));
    }

    /// Prints a figure that was compared, and whatever else `more` holds.
    pub(crate) fn figure(&self, name: &str, unit: &str, better: Better, comparison: &Comparison, more: Value) {
        let ratio = match better {
            Better::Higher => comparison.ours_over_bare,
            Better::Lower => 1.0 / comparison.ours_over_bare,
        };
        let mut line = json!({
            "name": name,
            "value": rounded(comparison.ours),
            "unit": unit,
            "bare": rounded(comparison.bare),
            "ratio": rounded(ratio),
            "valid": ratio <= IMPLAUSIBLE,
            "noise": rounded(comparison.noise),
            "server": self.server,
            "load": load(),
        });
        if let Some((ours, bare)) = comparison.cpu {
            line["cpu_ms"] = cpu(ours);
            line["bare_cpu_ms"] = cpu(bare);
            line["cpu_ratio"] = rounded((bare.server + bare.client) / (ours.server + ours.client)).into();
        }
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        println!("{line}");
    }

    /// Prints a figure that has nothing to be compared with.
    pub(crate) fn alone(&self, name: &str, unit: &str, value: f64, more: Value) {
        let mut line =
            json!({ "name": name, "value": rounded(value), "unit": unit, "server": self.server, "load": load() });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        println!("{line}");
    }
}

fn cpu(cpu: Cpu) -> Value {
    json!({ "server": rounded(cpu.server), "client": rounded(cpu.client) })
}

/// Three digits after the point are more than any figure deserves.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The load average over a minute, where the system tells it.
pub(crate) fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}
