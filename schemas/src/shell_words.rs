//! Splits a text into words the way a POSIX shell does, without running one.

/// The words of `text`, or `None` when a quote or a final backslash is left open.
///
/// Quotes and backslashes work as in a shell. Nothing is expanded: `$`, `*`, `~`, `;`, `|` and back-quotes are ordinary
/// characters, because the words go to a program directly and never to a shell.
#[must_use]
pub fn shell_words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(character) = chars.next() {
        match character {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next()? {
                '\n' => {}
                other => word.get_or_insert_default().push(other),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                '\n' => {}
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => {
                    word.push('\\');
                    word.push(other);
                }
            },
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_sees_them() {
        let cases: [(&str, &[&str]); 10] = [
            ("", &[]),
            ("  -v\t--cov=src \n", &["-v", "--cov=src"]),
            ("-c 'print(1); x'", &["-c", "print(1); x"]),
            (r#"a"b c"'d'"#, &["ab cd"]),
            (r#""a \"q\" \$x \n""#, &[r#"a "q" $x \n"#]),
            (r"a\ b", &["a b"]),
            ("''", &[""]),
            ("$(rm -rf /) `x` *", &["$(rm", "-rf", "/)", "`x`", "*"]),
            ("a,b,c", &["a,b,c"]),
            ("olá 🐝", &["olá", "🐝"]),
        ];
        for (text, words) in cases {
            assert_eq!(shell_words(text).unwrap(), words, "{text}");
        }
        for open in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(shell_words(open), None, "{open}");
        }
    }
}
