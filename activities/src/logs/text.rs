//! Bytes to text that no terminal acts on.

use std::borrow::Cow;

/// Begins most sequences.
pub(super) const ESCAPE: char = '\u{1b}';

/// The text of a line. Bytes that are not UTF-8 become U+FFFD; escape sequences and control characters go, tabs stay.
#[must_use]
pub fn clean(bytes: &[u8]) -> Cow<'_, str> {
    let text = lossy(bytes);
    // The usual line has nothing to be removed.
    if !has_any(&text, acts) {
        return text;
    }
    Cow::Owned(shown(&text, acts).map(|(_, part)| part).collect())
}

/// As [`String::from_utf8_lossy`], in a fraction of its time where all is UTF-8.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Whether there is a character that `acts`. None of printable ASCII does, which is looked at many bytes at once.
pub(super) fn has_any(text: &str, acts: fn(char) -> bool) -> bool {
    const AT_ONCE: usize = 64;
    let is_plain = |bytes: &[u8]| bytes.iter().fold(true, |plain, byte| plain & matches!(byte, b'\t' | b' '..=b'~'));
    !text.as_bytes().chunks(AT_ONCE).all(is_plain) && text.contains(acts)
}

/// Whether a terminal does something else with it than showing it: control characters, changes of direction, line breaks.
fn acts(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same, but that lines end.
pub(super) fn acts_within_a_line(c: char) -> bool {
    !matches!(c, '\n' | '\r') && acts(c)
}

/// The parts of a text between what `acts` and the sequences that it begins, and where each of them is.
pub(super) fn shown(text: &str, acts: fn(char) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text);
    // Once a command string has no end, none that begins later has one: the text is not read again for each of them.
    let mut strings_end = true;
    std::iter::from_fn(move || {
        let now = rest?;
        let at = text.len() - now.len();
        let end = now.find(acts);
        rest = end.map(|end| after_sequence(&now[end..], &mut strings_end));
        Some((at, &now[..end.unwrap_or(now.len())]))
    })
}

/// What follows the sequence that `text` begins with. Of one that does not end, only its beginning is gone: nothing that
/// could be read is hidden.
fn after_sequence<'a>(text: &'a str, strings_end: &mut bool) -> &'a str {
    let mut chars = text.chars();
    let introducer = match chars.next() {
        Some(ESCAPE) => match chars.clone().next() {
            Some(c @ '\u{20}'..='\u{7e}') => {
                chars.next();
                c
            }
            _ => return chars.as_str(),
        },
        // One character for ESC and a letter.
        Some(c @ '\u{80}'..='\u{9f}') => char::from(c as u8 - 0x40),
        _ => return chars.as_str(),
    };
    let rest = chars.as_str();
    match introducer {
        '[' => {
            let end = rest.find(|c: char| !matches!(c, '\u{20}'..='\u{3f}')).unwrap_or(rest.len());
            rest[end..].strip_prefix(|c: char| matches!(c, '\u{40}'..='\u{7e}')).unwrap_or(&rest[end..])
        }
        ']' | 'P' | 'X' | '^' | '_' if *strings_end => after_string(rest).unwrap_or_else(|| {
            *strings_end = false;
            rest
        }),
        // Intermediate characters, and the one that ends them.
        '\u{20}'..='\u{2f}' => {
            let rest = rest.trim_start_matches(|c: char| matches!(c, '\u{20}'..='\u{2f}'));
            rest.strip_prefix(|c: char| matches!(c, '\u{30}'..='\u{7e}')).unwrap_or(rest)
        }
        _ => rest,
    }
}

/// What follows the end of a command string (ECMA-48 §5.6), or what terminals take for its end.
fn after_string(text: &str) -> Option<&str> {
    let mut chars = text.chars();
    loop {
        let ends = match chars.next()? {
            '\u{7}' | '\u{9c}' => true,
            ESCAPE => chars.as_str().starts_with('\\') && chars.next().is_some(),
            _ => false,
        };
        if ends {
            return Some(chars.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_gone_and_the_rest_is_there() {
        for (bytes, expected) in [
            (&b"plain\ttext \xc3\xa9"[..], "plain\ttext é"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"a\x1b[2K\x1b[1Gb", "ab"),
            (b"\x1b]0;title\x07shown", "shown"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bPq#0\x1b\\after", "after"),
            (b"\x1b(B\x1b7text\x1b8", "text"),
            (b"\xc2\x9b31mred", "red"),
            (b"a\x00b\x08c\x7fd", "abcd"),
            ("\u{202e}txt.exe\u{2066}".as_bytes(), "txt.exe"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            // What does not end hides nothing.
            (b"\x1b]0;never ends", "0;never ends"),
            (b"\x1b[31", ""),
            (b"end\x1b", "end"),
            (b"\x1b\xc3\xa9", "é"),
            (b"\x1b]0;a\x1b[0m\x1b\\b\x1b]0;c\xc2\x9cd\x1b]e", "bde"),
        ] {
            assert_eq!(clean(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn sequences_without_an_end_take_no_more_time_than_others() {
        for sequence in ["\x1b]", "\x1bP", "\u{9d}", "\x1b]\x07", "\x1b]\x1b\\", "\x1b[0", "\x1b(", "\x1b"] {
            let bytes = sequence.repeat((1 << 20) / sequence.len());
            let began = std::time::Instant::now();
            assert_eq!(clean(bytes.as_bytes()), "");
            assert!(began.elapsed() < std::time::Duration::from_secs(2), "{sequence:?}: {:?}", began.elapsed());
        }
    }

    proptest! {
        #[test]
        fn a_character_that_acts_is_found_wherever_it_stands(before in "[a~\t ]{0,150}", c in "[\\x00-\\x7f\\u{80}-\\u{a0}é\\u{200e}\\u{2028}\\u{202e}]", after in "[a~\t ]{0,70}") {
            let text = format!("{before}{c}{after}");
            for acts in [acts, acts_within_a_line] {
                prop_assert_eq!(has_any(&text, acts), text.contains(acts));
            }
        }

        #[test]
        fn no_bytes_leave_anything_that_acts(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = clean(&bytes);
            prop_assert!(!text.contains(acts), "{text:?}");
            prop_assert_eq!(clean(text.as_bytes()), text.as_ref(), "what is clean stays as it is");
            prop_assert_eq!(lossy(&bytes), String::from_utf8_lossy(&bytes));
        }
    }
}
