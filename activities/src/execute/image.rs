//! Which texts are image references.

/// Longest reference.
const MAX_REFERENCE: usize = 512;
/// What registries say of an image that they do not have, as engines and nodes pass it on in small letters.
pub(in crate::execute) const NOT_THERE: [&str; 6] = [
    "not found",
    "manifest unknown",
    "does not exist",
    "no matching manifest",
    "no match for platform",
    "repository name not known",
];
/// What they say of one that is not for everybody.
pub(in crate::execute) const NOT_FOR_EVERYBODY: [&str; 4] =
    ["unauthorized", "denied", "authentication required", "no basic auth"];

/// Whether `text` is an image reference: `[registry[:port]/]path[:tag][@sha256:…]`. What is none never becomes part of a
/// URL.
pub(in crate::execute) fn is_image(text: &str) -> bool {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let last = name.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    };
    let digest_is_one = digest.is_none_or(|digest| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
    });
    let tag_is_one = tag.is_none_or(|tag| {
        (1..=128).contains(&tag.len())
            && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    });
    let parts: Vec<&str> = path.split('/').collect();
    let parts_are_some = parts.iter().enumerate().all(|(at, part)| {
        let word = if at == 0 && parts.len() > 1 { part.split_once(':').map_or(*part, |(host, _)| host) } else { part };
        let port_is_one = word.len() == part.len() || part[word.len() + 1..].parse::<u16>().is_ok();
        port_is_one
            && word.starts_with(|c: char| c.is_ascii_alphanumeric())
            && word.ends_with(|c: char| c.is_ascii_alphanumeric())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            && !word.contains("..")
    });
    text.len() <= MAX_REFERENCE && digest_is_one && tag_is_one && parts_are_some
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_what_would_be_something_else_in_a_url() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for image in [
            "python:3.11-slim",
            "node:18-alpine",
            "busybox",
            "library/busybox:1",
            "registry.example.org:5000/team/app_x/y:v1.2_3",
            "localhost/app",
            &digest,
        ] {
            assert!(is_image(image), "{image}");
        }
        let long = "a".repeat(600);
        for image in [
            "",
            " busybox",
            "busybox:",
            "busybox:a b",
            "../etc",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "a?x=1",
            "a#b",
            "a%2fb",
            "busybox@sha256:short",
            "busybox@md5:00",
            "host:port/app",
            "-x",
            "a;rm",
            "a\n",
            "é",
            &long,
        ] {
            assert!(!is_image(image), "{image:?}");
        }
    }
}
