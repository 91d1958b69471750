//! Text of dead letters for people: whoever wrote it is not trusted.

/// `text` on one line with at most `max_chars` characters. What a terminal or a log would interpret (control characters,
/// line breaks, changes of direction) is escaped.
#[must_use]
pub fn shown(text: &str, max_chars: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    for character in text.chars() {
        let plain = matches!(character, '\'' | '"' | '\\') || character.escape_debug().count() == 1;
        let piece = if plain { character.to_string() } else { character.escape_debug().to_string() };
        let width = piece.chars().count();
        // One place is kept for the ellipsis.
        if used + width > max_chars.saturating_sub(1) {
            out.push('…');
            return out;
        }
        used += width;
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_interpret_is_escaped_and_the_rest_is_not() {
        for (text, expected) in [
            (r#"it's "é" \n"#, r#"it's "é" \n"#),
            ("a\nb\u{1b}[31mc", r"a\nb\u{1b}[31mc"),
            ("\u{202e}txt", r"\u{202e}txt"),
        ] {
            assert_eq!(shown(text, 100), expected);
        }
        for text in ["x".repeat(500), "\u{7}".repeat(500), "é".repeat(500)] {
            let cut = shown(&text, 80);
            assert!(cut.chars().count() <= 80 && cut.ends_with('…'), "{cut}");
        }
    }
}
