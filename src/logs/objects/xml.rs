//! What stores say in XML, as far as their client does not read it, or reads it too strictly.

use object_store::path::Path;

/// The text of the first element of this name.
pub(super) fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// An answer to a list without the names that are none to the store's client, which would not read the others either.
pub(super) fn without_odd_names(list: &str) -> String {
    let mut list = list.to_owned();
    for (entry, name) in [("Contents", "Key"), ("CommonPrefixes", "Prefix")] {
        let (begin, end) = (format!("<{entry}>"), format!("</{entry}>"));
        let kept = list.split_inclusive(end.as_str()).map(|piece| match piece.split_once(begin.as_str()) {
            Some((before, entry)) if element(entry, name).is_some_and(is_odd) => before,
            _ => piece,
        });
        list = kept.collect();
    }
    list
}

/// Whether the store's client takes a name for an error: it has an empty part, `.`, `..` or a control character.
fn is_odd(name: &str) -> bool {
    let is_control = |reference: &str| {
        let (number, _) = reference.split_once(';')?;
        let number = match number.strip_prefix('x') {
            Some(digits) => u8::from_str_radix(digits, 16),
            None => number.parse(),
        };
        number.ok().filter(u8::is_ascii_control)
    };
    Path::parse(name).is_err() || name.split("&#").skip(1).any(|reference| is_control(reference).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_client_reads_are_taken_out_of_a_list_and_nothing_else() {
        let list = |keys: &[&str], folders: &[&str]| {
            let keys = keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>7</Size></Contents>"));
            let folders =
                folders.iter().map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"));
            let entries: String = keys.chain(folders).collect();
            format!("<?xml version=\"1.0\"?>\n<ListBucketResult><Prefix>a//b/</Prefix>{entries}</ListBucketResult>")
        };
        let keys = ["a//b", "a/b", "a/../b", "a/b&#x1b;c", "a/it&#39;s &amp; b", "a/b\u{7f}", "a/b&#127;", "a/.", "é"];
        let odd = list(&keys, &["a//", "a/b/", "a/b&#10;/"]);
        assert_eq!(without_odd_names(&odd), list(&["a/b", "a/it&#39;s &amp; b", "é"], &["a/b/"]));
        for other in ["", "<Contents>", "<Contents></Contents>", "<Contents><Key>a//b</Contents>", "</Contents>"] {
            assert_eq!(without_odd_names(other), other);
        }
    }
}
