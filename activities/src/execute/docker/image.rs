//! Images: who is told whose password when they are pulled.

use std::sync::Arc;

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
