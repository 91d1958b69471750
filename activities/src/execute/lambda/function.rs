//! Names of functions, and which of them tickets may use.

use std::fmt;

/// Most characters of a function's name, its account, region and alias included (AWS, `Invoke`, `FunctionName`).
const MAX_NAME: usize = 170;

/// The name of a function, `123456789012:function:name` or its ARN, with or without a version or alias. It stands in a path:
/// `A-Z a-z 0-9 - _ . : $`, at most 170 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    text: String,
    place: Place,
}

/// Which functions tickets may use: one, or with `*` at the end of the name all whose names begin so. Of another account than the
/// worker's own only where it names that account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionPattern {
    place: Place,
    /// Whether the name is a beginning.
    is_open: bool,
}

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    region: Option<String>,
    /// `None`: the account of whoever asks.
    account: Option<String>,
    name: String,
    has_qualifier: bool,
}

/// A text is no name of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a function's name, `account:function:name` or an ARN of Lambda, of at most {} characters: names have A-Z, a-z, 0-9 and, \
     after the first, `-_.`",
    MAX_NAME
)]
pub struct InvalidFunctionName;

impl FunctionName {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region that an ARN names.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.place.region.as_deref()
    }
}

impl TryFrom<String> for FunctionName {
    type Error = InvalidFunctionName;

    fn try_from(text: String) -> Result<Self, InvalidFunctionName> {
        let place = Place::of(&text).filter(|place| text.len() <= MAX_NAME && is_name(&place.name));
        place.map(|place| Self { place, text }).ok_or(InvalidFunctionName)
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FunctionPattern {
    /// Whether this function, in whichever version, is among them.
    #[must_use]
    pub fn allows(&self, function: &FunctionName) -> bool {
        let (own, asked) = (&self.place, &function.place);
        let is_named = if self.is_open { asked.name.starts_with(&own.name) } else { asked.name == own.name };
        own.account == asked.account && is_named
    }
}

/// This function alone, in whichever version.
impl From<&FunctionName> for FunctionPattern {
    fn from(function: &FunctionName) -> Self {
        Self { place: Place { has_qualifier: false, ..function.place.clone() }, is_open: false }
    }
}

impl TryFrom<String> for FunctionPattern {
    type Error = InvalidFunctionName;

    fn try_from(text: String) -> Result<Self, InvalidFunctionName> {
        let (start, is_open) = text.strip_suffix('*').map_or((text.as_str(), false), |start| (start, true));
        let place = Place::of(start).filter(|place| {
            let is_good = is_name(&place.name) || (is_open && place.name.is_empty());
            is_good && !place.has_qualifier && text.len() <= MAX_NAME
        });
        place.map(|place| Self { place, is_open }).ok_or(InvalidFunctionName)
    }
}

/// As it is read again. The region, which is the worker's, is left out.
impl fmt::Display for FunctionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.place.account {
            write!(f, "{account}:function:")?;
        }
        write!(f, "{}{}", self.place.name, if self.is_open { "*" } else { "" })
    }
}

impl Place {
    /// `None`: the text has another form. Its name may be anything, nothing too.
    fn of(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(':').collect();
        let (region, account, rest) = match words.as_slice() {
            ["arn", partition, "lambda", region, account, "function", rest @ ..]
                if is_partition(partition) && is_region(region) =>
            {
                (Some((*region).to_owned()), Some(*account), rest)
            }
            [account, "function", rest @ ..] if !rest.is_empty() => (None, Some(*account), rest),
            rest => (None, None, rest),
        };
        if account.is_some_and(|account| account.len() != 12 || !account.chars().all(|c| c.is_ascii_digit())) {
            return None;
        }
        let (name, qualifier) = match rest {
            [name] => (name, None),
            [name, qualifier] => (name, Some(qualifier)),
            _ => return None,
        };
        if qualifier.is_some_and(|qualifier| !is_qualifier(qualifier)) {
            return None;
        }
        Some(Self {
            region,
            account: account.map(str::to_owned),
            name: (*name).to_owned(),
            has_qualifier: qualifier.is_some(),
        })
    }
}

fn is_partition(text: &str) -> bool {
    text.starts_with("aws") && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A version or an alias.
fn is_qualifier(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        FunctionName::try_from(text.to_owned()).expect("a name")
    }

    fn pattern(text: &str) -> Result<FunctionPattern, InvalidFunctionName> {
        FunctionPattern::try_from(text.to_owned())
    }

    #[test]
    fn a_functions_name_can_stand_in_a_path_and_leads_nowhere_else() {
        for good in [
            "neural-hive-executor",
            "f",
            "f:$LATEST",
            "function",
            "f:function",
            "my.function_1:live",
            "123456789012:function:f",
            "arn:aws:lambda:eu-central-1:123456789012:function:f:7",
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f",
        ] {
            assert_eq!(name(good).as_str(), good);
        }
        assert_eq!(name("arn:aws:lambda:eu-central-1:123456789012:function:f:7").region(), Some("eu-central-1"));
        for wrong in [
            "",
            ".",
            "..",
            "../f",
            "a/b",
            "a b",
            "a?b",
            "a%2Fb",
            "-a",
            ":a",
            "a:",
            "a*",
            "a:b:c",
            "é",
            "12:function:f",
            "12345678901x:function:f",
            "arn:aws:s3:eu-central-1:123456789012:function:f",
            "arn:other:lambda:eu-central-1:123456789012:function:f",
            "arn:aws:lambda::123456789012:function:f",
            "arn:aws:lambda:eu-central-1:123456789012:layer:f",
            "arn:aws:lambda:eu-central-1:123456789012:function:f:7:8",
            &"a".repeat(MAX_NAME + 1),
        ] {
            assert_eq!(FunctionName::try_from(wrong.to_owned()), Err(InvalidFunctionName), "{wrong:?}");
        }
    }

    #[test]
    fn a_pattern_allows_its_functions_and_no_other_accounts() {
        let foreign = "arn:aws:lambda:eu-central-1:123456789012:function:build-a";
        for (allowed, asked, expected) in [
            ("build-a", "build-a", true),
            ("build-a", "build-a:7", true),
            ("build-a", "build-ab", false),
            ("build-a", "Build-a", false),
            ("build-*", "build-a:$LATEST", true),
            ("build-*", "build", false),
            ("*", "anything", true),
            ("*", foreign, false),
            ("*", "123456789012:function:build-a", false),
            ("build-a", foreign, false),
            ("123456789012:function:build-*", foreign, true),
            ("123456789012:function:*", foreign, true),
            ("123456789012:function:*", "build-a", false),
            ("210987654321:function:*", foreign, false),
            (foreign, "123456789012:function:build-a:live", true),
        ] {
            let pattern = pattern(allowed).expect("a pattern");
            assert_eq!(pattern.allows(&name(asked)), expected, "{allowed:?}: {asked:?}");
        }
        for wrong in ["", "a:7", "a**", "*a", "a*b", "1:function:*", "a:*", "arn:aws:s3:::*"] {
            assert_eq!(pattern(wrong), Err(InvalidFunctionName), "{wrong:?}");
        }
    }

    #[test]
    fn a_pattern_is_read_again_as_it_is_shown() {
        for text in ["f", "f-*", "*", "123456789012:function:f", "123456789012:function:*"] {
            assert_eq!(pattern(text).expect("a pattern").to_string(), text);
        }
        let own = FunctionPattern::from(&name("arn:aws:lambda:eu-central-1:123456789012:function:f:7"));
        assert_eq!(own.to_string(), "123456789012:function:f");
        assert!(own.allows(&name("123456789012:function:f:8")));
    }
}
