//! Bounded, escaped pieces of untrusted text for error messages.

/// Longest excerpt of ticket content that an error message may carry, in characters.
pub(crate) const MAX_EXCERPT_CHARS: usize = 80;

/// Escapes `text` and cuts it to at most [`MAX_EXCERPT_CHARS`] characters, the ellipsis included.
///
/// Error messages end in log lines, in the workflow history and in the DLQ. Ticket content is not trusted there: it
/// could forge a line or hold a secret in full length.
pub(crate) fn excerpt(text: &str) -> String {
    let mut out = String::new();
    let mut used = 0;
    for character in text.chars() {
        // A single quote needs no escape between double quotes.
        let (escaped, width) = if character == '\'' {
            (character.to_string(), 1)
        } else {
            (character.escape_debug().to_string(), character.escape_debug().count())
        };
        // One place is kept for the ellipsis.
        if used + width > MAX_EXCERPT_CHARS - 1 {
            out.push('…');
            return out;
        }
        used += width;
        out.push_str(&escaped);
    }
    out
}

/// Cuts `text` to at most `max_bytes` bytes on a character boundary.
pub(crate) fn truncate_bytes(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        return text;
    }
    let mut end = max_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text` on one line, cut to `max_chars` characters: for messages that are ours but may quote content.
pub(crate) fn single_line(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_escaped_and_bounded() {
        assert_eq!(excerpt("a\nb\0\"c\" 'd'"), "a\\nb\\0\\\"c\\\" 'd'");
        for text in ["x".repeat(500), "\u{7}".repeat(500), "é".repeat(500)] {
            let cut = excerpt(&text);
            assert!(cut.chars().count() <= MAX_EXCERPT_CHARS, "{cut}");
            assert!(cut.ends_with('…'));
        }
    }

    #[test]
    fn truncation_respects_characters() {
        assert_eq!(truncate_bytes("aé", 2), "a");
        assert_eq!(truncate_bytes("aé", 3), "aé");
    }
}
