//! Images: which references are some, when they are pulled, and who is told whose password.

use std::sync::Arc;

/// Longest reference.
const MAX_REFERENCE: usize = 512;
/// The registry of images that name none.
const DOCKER_HUB: &str = "docker.io";

/// A registry's credentials.
#[derive(Clone)]
pub struct RegistryLogin {
    /// The registry: `registry.example.org:5000`, or `docker.io`.
    pub server: String,
    /// Asked for before each pull, since they change: user name and password, or why they cannot be had.
    pub credentials: Arc<dyn Fn() -> Result<(String, String), String> + Send + Sync>,
}

impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLogin").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Whether `text` is an image reference: `[registry[:port]/]path[:tag][@sha256:…]`. What is none never becomes part of a
/// URL.
#[must_use]
pub fn is_image(text: &str) -> bool {
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

/// The registry that an image comes from: the first part of its name when that looks like a host, as Docker has it.
#[must_use]
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DOCKER_HUB,
    }
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

    #[test]
    fn a_password_goes_to_its_own_registry_only() {
        for (image, registry) in [
            ("busybox", "docker.io"),
            ("library/busybox", "docker.io"),
            ("registry.example.org/a/b:1", "registry.example.org"),
            ("localhost:5000/a", "localhost:5000"),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(registry_of(image), registry, "{image}");
        }
    }
}
