//! Takes the worker's secrets out of text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::text::{ESCAPE, acts_within_a_line, has_any, shown};

/// What stands in the place of a secret.
const MARK: &str = "[redacted]";
/// Shorter ones are in too many words that are no secret.
const SHORTEST: usize = 4;
/// The same of results, which other tickets compute with.
const SHORTEST_OF_RESULTS: usize = 8;

/// Knows secrets, and finds them in text. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Arc<Secrets>,
    /// Secrets of fewer bytes are passed over.
    shortest: usize,
}

#[derive(Default)]
struct Secrets {
    /// Longest first.
    texts: Vec<Zeroizing<String>>,
    /// Whether one of them begins with these bytes: a bit for each hash of [`SHORTEST`] bytes.
    begins: Vec<u64>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.texts.len())
    }
}

impl Redactor {
    /// Finds these. Of one with several lines, as keys have it, each line is one, but for the marks around it; those below four bytes
    /// are not looked for.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = Zeroizing<String>>) -> Self {
        let mut known = Secrets { texts: Vec::new(), begins: vec![0; (1 << 16) / 64] };
        for secret in secrets {
            let lines = secret.lines().map(str::trim);
            let lines = lines.filter(|line| line.len() >= SHORTEST && !line.starts_with("-----"));
            known.texts.extend(lines.map(|line| Zeroizing::new(line.to_owned())));
        }
        known.texts.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        known.texts.dedup();
        for text in &known.texts {
            let (word, bit) = beginning(text.as_bytes());
            known.begins[word] |= bit;
        }
        Self { secrets: Arc::new(known), shortest: SHORTEST }
    }

    /// The same for results: it passes over secrets below eight bytes.
    #[must_use]
    pub(crate) fn of_results(&self) -> Self {
        Self { secrets: Arc::clone(&self.secrets), shortest: SHORTEST_OF_RESULTS }
    }

    /// Bytes that must be kept beyond a cut for a secret before it to be found: those of the longest one but one.
    pub(crate) fn margin(&self) -> usize {
        self.secrets.texts.first().map_or(0, |longest| longest.len() - 1)
    }

    /// The part of a text whose ends may have been cut off that holds no part of a secret which is not whole.
    pub(crate) fn whole(&self, text: &str, cut_before: bool, cut_after: bool) -> Range<usize> {
        let margin = self.margin().min(text.len());
        let start = if cut_before { text.ceil_char_boundary(margin) } else { 0 };
        let end = if cut_after { text.floor_char_boundary(text.len() - margin) } else { text.len() };
        start..end.max(start)
    }

    /// This part of the text, with a mark in the place of each secret that is at least partly in it.
    pub(crate) fn redact<'a>(&self, text: &'a str, part: Range<usize>) -> Cow<'a, str> {
        let found = self.secrets_in(text, &part);
        marked(text, part, &found)
    }

    /// As [`Redactor::redact`] of the [`Redactor::whole`] part, for text that may hold what terminals act on: a secret is found beneath
    /// it, and the rest stays as it is. Also says how many bytes the part has.
    pub(crate) fn redact_raw<'a>(&self, text: &'a str, cut_before: bool, cut_after: bool) -> (Cow<'a, str>, usize) {
        if self.secrets.texts.is_empty() || !has_any(text, acts_within_a_line) {
            let part = self.whole(text, cut_before, cut_after);
            return (self.redact(text, part.clone()), part.len());
        }
        let (mut plain, mut at) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
        let mut begin = 0;
        // No sequence hides what is in other lines.
        for line in text.split_inclusive(['\n', '\r']) {
            for (start, part) in shown(line, acts_within_a_line) {
                plain.push_str(part);
                at.extend(begin + start..begin + start + part.len());
            }
            begin += line.len();
        }
        let beneath = self.whole(&plain, cut_before, cut_after);
        // What is not shown belongs to the part where nothing is cut.
        let start = if cut_before { at.get(beneath.start).copied().unwrap_or(text.len()) } else { 0 };
        let end = if cut_after { beneath.end.checked_sub(1).map_or(0, |last| at[last] + 1) } else { text.len() };
        let part = start..end.max(start);
        // Those within a sequence too, which is still there.
        let mut found = self.secrets_in(text, &part);
        // An escape before one would take the beginning of its mark.
        found.iter_mut().for_each(|secret| secret.start -= usize::from(text[..secret.start].ends_with(ESCAPE)));
        found.extend(self.secrets_in(&plain, &beneath).into_iter().map(|it| at[it.start]..at[it.end - 1] + 1));
        found.sort_unstable_by_key(|secret| secret.start);
        found.dedup_by(|next, last| {
            let overlap = next.start < last.end;
            if overlap {
                last.end = last.end.max(next.end);
            }
            overlap
        });
        (marked(text, part.clone(), &found), part.len())
    }

    /// Takes the secrets out of a whole text.
    pub(crate) fn clean(&self, text: &mut String) {
        if let (Cow::Owned(redacted), _) = self.redact_raw(text, false, false) {
            *text = redacted;
        }
    }

    /// Takes the secrets out of every text of a value.
    pub(crate) fn clean_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.clean(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.clean_value(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.clean_value(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Where secrets are that are at least partly in this part of the text.
    fn secrets_in(&self, text: &str, part: &Range<usize>) -> Vec<Range<usize>> {
        let bytes = text.as_bytes();
        let (mut found, mut at) = (Vec::new(), 0);
        if self.secrets.texts.is_empty() {
            return found;
        }
        while at < part.end {
            let Some(length) = self.secret_at(&bytes[at..]) else {
                at += 1;
                continue;
            };
            if at + length > part.start {
                found.push(at..at + length);
            }
            at += length;
        }
        found
    }

    /// The length of the secret that `bytes` begins with.
    fn secret_at(&self, bytes: &[u8]) -> Option<usize> {
        if bytes.len() < SHORTEST {
            return None;
        }
        let (word, bit) = beginning(bytes);
        if self.secrets.begins[word] & bit == 0 {
            return None;
        }
        let mut looked_for = self.secrets.texts.iter().take_while(|text| text.len() >= self.shortest);
        looked_for.find(|text| bytes.starts_with(text.as_bytes())).map(|text| text.len())
    }
}

/// The word and the bit of the four bytes that `bytes` begins with. Two would not do: lines of digits begin as keys do at every byte.
fn beginning(bytes: &[u8]) -> (usize, u64) {
    let four = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    // Multiplied by 2^32 over the golden ratio; its upper half is a hash of sixteen bits.
    let hash = (four.wrapping_mul(0x9e37_79b9) >> 16) as usize;
    (hash / 64, 1 << (hash % 64))
}

/// This part of the text, with a mark in the place of each secret.
fn marked<'a>(text: &'a str, part: Range<usize>, secrets: &[Range<usize>]) -> Cow<'a, str> {
    if secrets.is_empty() {
        return Cow::Borrowed(&text[part]);
    }
    let (mut out, mut from) = (String::new(), part.start);
    for secret in secrets {
        // Nothing when the secret begins before the part.
        out.push_str(text.get(from..secret.start).unwrap_or_default());
        out.push_str(MARK);
        from = secret.end;
    }
    // Nothing when the last one ends behind the part.
    out.push_str(text.get(from..part.end).unwrap_or_default());
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new(secrets.iter().map(|secret| Zeroizing::new((*secret).to_owned())))
    }

    fn all(redactor: &Redactor, text: &str) -> String {
        redactor.redact(text, 0..text.len()).into_owned()
    }

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let redactor = redactor(&["hunter2", "hunter2hunter2", "tök-en"]);
        for (text, expected) in [
            ("hunter2", "[redacted]"),
            ("a hunter2b hunter2", "a [redacted]b [redacted]"),
            ("hunter2hunter2", "[redacted]"),
            ("hunter hunter 2", "hunter hunter 2"),
            ("ätök-enä", "ä[redacted]ä"),
            ("", ""),
        ] {
            assert_eq!(all(&redactor, text), expected);
        }
        assert_eq!(format!("{redactor:?}"), "Redactor(3 secrets)");
        assert_eq!(all(&Redactor::default(), "hunter2"), "hunter2");
    }

    #[test]
    fn each_line_of_a_key_is_a_secret_and_what_is_too_short_is_none() {
        let redactor = redactor(&["-----BEGIN-----\r\nMIIEvQ\n-----END-----\n", "abc"]);
        assert_eq!(all(&redactor, "key: MIIEvQ abc"), "key: [redacted] abc");
        assert_eq!(all(&redactor, "-----BEGIN-----"), "-----BEGIN-----", "the mark around a key is in every key");
    }

    #[test]
    fn results_keep_what_may_be_part_of_a_word() {
        let redactor = redactor(&["admin", "hunter2-hunter2"]);
        assert_eq!(all(&redactor, "administrator hunter2-hunter2"), "[redacted]istrator [redacted]");
        let mut value = serde_json::json!({ "a": ["administrator", { "b": "hunter2-hunter2", "c": 1 }], "d": null });
        redactor.of_results().clean_value(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["administrator", { "b": "[redacted]", "c": 1 }], "d": null }));
    }

    #[test]
    fn a_secret_is_found_beneath_what_terminals_act_on_and_within_it() {
        let redactor = redactor(&["hunter2-hunter2"]);
        for (text, expected) in [
            ("a \x1b[1mhunter2-\x1b[0mhunter2\x1b[0m b\n", "a \x1b[1m[redacted]\x1b[0m b\n"),
            ("\x1b[1mred\x1b[0m", "\x1b[1mred\x1b[0m"),
            ("\x1b]0;hunter2-hunter2\x07", "\x1b]0;[redacted]\x07"),
            ("\x1bhunter2-hunter2", "[redacted]"),
            ("hunter2-\u{9b}1mhunter2\u{202e}", "[redacted]\u{202e}"),
            ("\x1b]0;no end\nhunter2-hunter2\n\x07", "\x1b]0;no end\n[redacted]\n\x07"),
            ("hunter2-\nhunter2", "hunter2-\nhunter2"),
        ] {
            let mut text = text.to_owned();
            redactor.clean(&mut text);
            assert_eq!(text, expected);
        }
    }

    proptest! {
        /// Wherever a text is cut: no part of a secret of more than nothing is left beside the cut.
        #[test]
        fn no_part_of_a_secret_is_left_beside_a_cut(before in "[ab é]{0,12}", after in "[ab é]{0,12}", cut in 0usize..40) {
            const SECRET: &str = "0123456789";
            let redactor = redactor(&[SECRET]);
            let text = format!("{before}{SECRET}{after}");
            let cut = text.floor_char_boundary(cut);
            for (kept, cut_before, cut_after) in [(&text[cut..], true, false), (&text[..cut], false, true)] {
                let shown = redactor.redact(kept, redactor.whole(kept, cut_before, cut_after));
                prop_assert!(!shown.contains(|c: char| c.is_ascii_digit()), "{shown:?} of {kept:?}");
            }
        }

        /// The same where the secret is stretched by what is not shown.
        #[test]
        fn no_part_of_a_stretched_secret_is_left_beside_a_cut(before in "[ab é\u{200e}]{0,12}", after in "[ab é\u{200e}]{0,12}", cut in 0usize..60) {
            let redactor = redactor(&["0123456789"]);
            let secret: String = "0123456789".chars().flat_map(|c| [c, '\u{200e}']).collect();
            let text = format!("{before}{secret}{after}");
            let cut = text.floor_char_boundary(cut);
            for (kept, cut_before, cut_after) in [(&text[cut..], true, false), (&text[..cut], false, true)] {
                let (shown, _) = redactor.redact_raw(kept, cut_before, cut_after);
                prop_assert!(!shown.contains(|c: char| c.is_ascii_digit()), "{shown:?} of {kept:?}");
            }
        }
    }
}
