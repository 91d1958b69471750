//! The work digest: tells a duplicate of a ticket from another ticket under the same id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::parameters::canonical;
use crate::ticket::Ticket;

/// Version of what the digest covers and how. Digests of different versions never compare equal.
const VERSION: u32 = 1;

/// SHA-256 over what a ticket asks to be done.
///
/// Covered: the ids (ticket, plan, intent, decision, task), the task type, the parameters in canonical form, the
/// dependencies and required capabilities as sets, the security level. Not covered: status, priority, risk band, times,
/// SLA, QoS, tracing, description, metadata, retry counts, and everything about the encoding. So one ticket has one
/// digest in Avro, in JSON, as the planner's Python literals, with any key order and after a re-drive.
///
/// Integer-valued floats count as integers, so a parameter `"1.0"` and a parameter `"1"` have one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkDigest([u8; 32]);

impl WorkDigest {
    /// Computes the digest of a ticket.
    #[must_use]
    pub fn of(ticket: &Ticket) -> Self {
        let mut dependencies: Vec<_> = ticket.dependencies.iter().map(|id| id.as_str()).collect();
        dependencies.sort_unstable();
        dependencies.dedup();
        let mut capabilities: Vec<_> = ticket.required_capabilities.iter().map(String::as_str).collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        let parameters: serde_json::Map<_, _> =
            ticket.parameters.iter().filter_map(|(name, value)| Some((name.clone(), canonical(value)?))).collect();
        let work = json!({
            "v": VERSION,
            "ticket_id": ticket.ticket_id.as_str(),
            "plan_id": ticket.plan_id.as_str(),
            "intent_id": ticket.intent_id.as_str(),
            "decision_id": ticket.decision_id.as_deref().unwrap_or_default(),
            "task_id": ticket.task_id.as_str(),
            "task_type": ticket.task_type.as_str(),
            "parameters": parameters,
            "dependencies": dependencies,
            "required_capabilities": capabilities,
            "security_level": ticket.security_level.as_str(),
        });
        let mut text = String::new();
        write_sorted(&work, &mut text);
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// The digest as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn as_hex(&self) -> String {
        hex(&self.0)
    }

    /// The digest's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Writes compact JSON with sorted keys.
///
/// The map type sorts them too, but stops doing so when any crate of a build turns a feature on; a digest must not
/// depend on that.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_sorted(&Value::String(key.clone()), out);
                out.push(':');
                write_sorted(item, out);
            }
            out.push('}');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// SHA-256 of `bytes` as hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl fmt::Display for WorkDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.as_hex())
    }
}

/// A text that is not a [`WorkDigest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a work digest: expected 64 lower-case hexadecimal digits")]
pub struct InvalidWorkDigest;

impl InvalidWorkDigest {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_work_digest"
    }
}

impl FromStr for WorkDigest {
    type Err = InvalidWorkDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidWorkDigest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidWorkDigest)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidWorkDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for WorkDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_hex())
    }
}

impl<'de> Deserialize<'de> for WorkDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
