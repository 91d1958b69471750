//! Reads Python literals: what `str()` makes of a value on the direct-plan path (`contracts/kafka.md §5.4`, INC-88).
//!
//! A parser of literals and nothing else. No names, no calls, no operators, no concatenation: nothing is evaluated.

use serde_json::{Map, Number, Value};

/// Deepest nesting of a literal.
pub const MAX_LITERAL_DEPTH: usize = 64;
/// Longest literal, in bytes: no message is longer.
pub const MAX_LITERAL_BYTES: usize = crate::framing::MAX_VALUE_BYTES;

/// A text that is not a Python literal of JSON's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a python literal: {reason} at byte {offset}")]
pub struct LiteralError {
    /// Where, in bytes from the start.
    pub offset: usize,
    /// What is wrong.
    pub reason: &'static str,
}

type Result<T> = std::result::Result<T, LiteralError>;

/// Reads one literal: `None`, `True`, `False`, numbers, strings, lists, tuples (as arrays) and dicts.
///
/// Keys of a dict may be strings, numbers or booleans and become text. Byte strings, sets, complex numbers, `inf` and
/// `nan` have no JSON counterpart and are refused.
///
/// # Errors
///
/// [`LiteralError`] for anything else, for nesting deeper than [`MAX_LITERAL_DEPTH`] and for texts longer than
/// [`MAX_LITERAL_BYTES`].
pub fn parse_python_literal(text: &str) -> Result<Value> {
    if text.len() > MAX_LITERAL_BYTES {
        return Err(LiteralError { offset: 0, reason: "text is too long" });
    }
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    parser.skip_space();
    if parser.at == text.len() { Ok(value) } else { Err(parser.error("unexpected text after the literal")) }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> LiteralError {
        LiteralError { offset: self.at, reason }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next_char(&mut self) -> Option<char> {
        let found = self.text.get(self.at..)?.chars().next()?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Skips space and takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_LITERAL_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.skip_space();
        match self.peek() {
            Some(b'[') => {
                self.at += 1;
                self.items(b']', depth).map(|(items, _)| Value::Array(items))
            }
            Some(b'(') => {
                self.at += 1;
                let (mut items, comma) = self.items(b')', depth)?;
                // Parentheses around one value without a comma are only parentheses.
                match items.pop() {
                    Some(only) if items.is_empty() && !comma => Ok(only),
                    Some(last) => {
                        items.push(last);
                        Ok(Value::Array(items))
                    }
                    None => Ok(Value::Array(items)),
                }
            }
            Some(b'{') => self.dict(depth),
            Some(quote @ (b'\'' | b'"')) => self.string(quote).map(Value::String),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => self.number(),
            Some(b'A'..=b'Z') => self.word(),
            _ => Err(self.error("expected a value")),
        }
    }

    /// The items up to `close`, and whether the last was followed by a comma.
    fn items(&mut self, close: u8, depth: usize) -> Result<(Vec<Value>, bool)> {
        let mut items = Vec::new();
        let mut comma = false;
        loop {
            if self.take(close) {
                return Ok((items, comma));
            }
            if !items.is_empty() && !comma {
                return Err(self.error("expected a comma or the end of the list"));
            }
            items.push(self.value(depth + 1)?);
            comma = self.take(b',');
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Value> {
        self.at += 1;
        let mut entries = Map::new();
        let mut comma = true;
        loop {
            if self.take(b'}') {
                return Ok(Value::Object(entries));
            }
            if !comma {
                return Err(self.error("expected a comma or the end of the dict"));
            }
            let key = match self.value(depth + 1)? {
                Value::String(key) => key,
                key @ (Value::Number(_) | Value::Bool(_)) => key.to_string(),
                _ => return Err(self.error("expected a key of a dict")),
            };
            if !self.take(b':') {
                return Err(self.error("expected a colon"));
            }
            entries.insert(key, self.value(depth + 1)?);
            comma = self.take(b',');
        }
    }

    fn word(&mut self) -> Result<Value> {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| !byte.is_ascii_alphanumeric() && byte != b'_').unwrap_or(rest.len());
        let value = match &rest[..end] {
            "None" => Value::Null,
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            _ => return Err(self.error("unknown name")),
        };
        self.at += end;
        Ok(value)
    }

    fn number(&mut self) -> Result<Value> {
        let rest = &self.text[self.at..];
        let end = rest
            .bytes()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .unwrap_or(rest.len());
        let token = &rest[..end];
        let digits = token.trim_start_matches(['+', '-']);
        if token.len() - digits.len() > 1
            || (digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit())
        {
            return Err(self.error("malformed number"));
        }
        let number = if let Ok(number) = token.parse::<i64>() {
            Number::from(number)
        } else if let Ok(number) = token.parse::<u64>() {
            Number::from(number)
        } else {
            // Larger integers lose digits, as they do in JSON.
            token.parse().ok().and_then(Number::from_f64).ok_or_else(|| self.error("malformed number"))?
        };
        self.at += end;
        Ok(Value::Number(number))
    }

    fn string(&mut self, quote: u8) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            match self.next_char().ok_or_else(|| self.error("unterminated string"))? {
                '\\' => self.escape(&mut out)?,
                '\n' => return Err(self.error("line end in a string")),
                end if end == char::from(quote) => return Ok(out),
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<()> {
        match self.next_char().ok_or_else(|| self.error("unterminated string"))? {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'v' => out.push('\u{b}'),
            'x' => out.push(self.code_point(2)?),
            'u' => out.push(self.code_point(4)?),
            'U' => out.push(self.code_point(8)?),
            'N' => return Err(self.error("named characters are not supported")),
            digit @ '0'..='7' => {
                let mut code = u32::from(digit) - u32::from('0');
                for _ in 0..2 {
                    let Some(next @ b'0'..=b'7') = self.peek() else {
                        break;
                    };
                    code = code * 8 + u32::from(next - b'0');
                    self.at += 1;
                }
                out.push(char::from_u32(code).ok_or_else(|| self.error("bad escape"))?);
            }
            same @ ('\\' | '\'' | '"') => out.push(same),
            // Python keeps the backslash of an escape it does not know.
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        Ok(())
    }

    /// A code point of exactly `digits` hexadecimal digits. Lone surrogates are no text and are refused.
    fn code_point(&mut self, digits: usize) -> Result<char> {
        let token = self.text.get(self.at..self.at + digits).ok_or_else(|| self.error("bad escape"))?;
        if !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.error("bad escape"));
        }
        let found = u32::from_str_radix(token, 16).ok().and_then(char::from_u32);
        let found = found.ok_or_else(|| self.error("bad escape"))?;
        self.at += digits;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inc_88_literals_of_the_planner() {
        let cases = [
            ("None", json!(null)),
            ("True", json!(true)),
            ("100", json!(100)),
            ("-1.5", json!(-1.5)),
            ("1e+22", json!(1e22)),
            ("18446744073709551615", json!(u64::MAX)),
            ("[]", json!([])),
            ("['sap', 'hana']", json!(["sap", "hana"])),
            ("['a',]", json!(["a"])),
            ("()", json!([])),
            ("(1, 'b')", json!([1, "b"])),
            ("(1,)", json!([1])),
            ("(1)", json!(1)),
            (
                "{'subject': 'sap', 'entities': {'$in': ['sap', 'hana']}}",
                json!({"subject": "sap", "entities": {"$in": ["sap", "hana"]}}),
            ),
            ("{1: None, True: False}", json!({"1": null, "true": false})),
            (r#"["it's", 'say "hi"', 'it\'s']"#, json!(["it's", "say \"hi\"", "it's"])),
            (r"'a\n\t\\\x41\u00e9\U0001F41D\101\q'", json!("a\n\t\\AéðA\\q".replace("éð", "é🐝"))),
            (" { 'a' : [ 1 , 2 ] } ", json!({"a": [1, 2]})),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_python_literal(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            " ",
            "sap",
            "true",
            "null",
            "[1 2]",
            "[,]",
            "['a'",
            "'a",
            "'a' 'b'",
            "{'a'}",
            "{'a': }",
            "{'a' 1}",
            "{[1]: 2}",
            "{None: 1}",
            "b'x'",
            "f'x'",
            "1+1",
            "--1",
            "007",
            "1_000",
            "nan",
            "inf",
            "1j",
            "-",
            ".",
            "e5",
            "[1] + [2]",
            "__import__('os')",
            "Nonex",
            "ObjectId('a')",
            "'\\x4'",
            "'\\u12'",
            "'\\ud800'",
            "'\\N{BEE}'",
            "'a\nb'",
            "(1",
            "+",
            "'\\xé'",
        ] {
            assert!(parse_python_literal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_python_literal(&nested(MAX_LITERAL_DEPTH)).is_ok());
        assert!(parse_python_literal(&nested(MAX_LITERAL_DEPTH + 2)).is_err());
        assert!(parse_python_literal(&nested(400_000)).is_err());
        assert!(parse_python_literal(&"1".repeat(MAX_LITERAL_BYTES + 1)).is_err());
    }
}
