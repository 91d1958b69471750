//! Code Forge, which makes code of templates.

use std::time::Duration;

use super::outgoing::PeerAccess;
use super::reader::Reader;

/// Settings of Code Forge.
#[derive(Debug, Clone)]
pub struct CodeForgeConfig {
    /// `CODE_FORGE_URL`: base URL. The platform's sources disagree about it (INC-103), so there is no default here.
    pub url: String,
    /// How it is reached.
    pub peer: PeerAccess,
    /// `CODE_FORGE_GENERATION_TIMEOUT_SECONDS`: time of a generation whose ticket names none.
    pub generation_timeout: Duration,
    /// `CODE_FORGE_POLL_INTERVAL_SECONDS`: between two looks at a generation.
    pub poll_interval: Duration,
}

impl CodeForgeConfig {
    /// `None`: `CODE_FORGE_URL` is not set, or `CODE_FORGE_ENABLED` is false.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let enabled = reader.boolean("CODE_FORGE_ENABLED", true, "whether Code Forge is used, where it is configured");
        let url =
            reader.url("CODE_FORGE_URL", "base URL of Code Forge; unset: tickets that ask for code of a template fail");
        if enabled && url.is_none() && reader.is_set("CODE_FORGE_ENABLED") {
            reader.error("CODE_FORGE_ENABLED=true: set CODE_FORGE_URL too, it has no default".to_owned());
        }
        let generation_timeout = reader.seconds(
            "CODE_FORGE_GENERATION_TIMEOUT_SECONDS",
            1800.0,
            "time of a generation whose ticket names none; added by this product",
        );
        let poll_interval = reader.number_within(
            "CODE_FORGE_POLL_INTERVAL_SECONDS",
            5,
            1..=60,
            "seconds between two looks at a generation; added by this product",
        );
        let poll_interval = Duration::from_secs(poll_interval);
        let peer = reader.peer_access(None);
        url.filter(|_| enabled).map(|url| Self { url, peer, generation_timeout, poll_interval })
    }
}
