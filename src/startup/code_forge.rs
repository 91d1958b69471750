//! Whether Code Forge answers: its own health check, which asks for nothing.

use std::time::Duration;

use reqwest::StatusCode;

use super::finding::{Check, Finding};
use crate::config::CodeForgeConfig;
use crate::net;

/// How long a check waits.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks Code Forge. `None`: it is not used.
pub(super) async fn look(settings: Option<&CodeForgeConfig>) -> Finding {
    let Some(settings) = settings else {
        let off = "Code Forge is not used: CODE_FORGE_URL is not set, or CODE_FORGE_ENABLED is false";
        return Finding::ok(Check::CodeForge, off);
    };
    judge(&settings.url, ask(settings).await)
}

async fn ask(settings: &CodeForgeConfig) -> Result<StatusCode, String> {
    let client = net::peer_client(TIMEOUT, &settings.peer).map_err(|error| format!("{error:#}"))?;
    let answer = client.get(format!("{}/health", settings.url.trim_end_matches('/'))).send().await;
    answer.map(|answer| answer.status()).map_err(|error| net::describe(&error))
}

fn judge(url: &str, answer: Result<StatusCode, String>) -> Finding {
    let (what, fix) = match answer {
        Ok(status) if status.is_success() => {
            return Finding::ok(Check::CodeForge, format!("Code Forge answers at {url}"));
        }
        Ok(status) => (
            format!("Code Forge at {url} answers its health check with {status}"),
            "check CODE_FORGE_URL; look at Code Forge",
        ),
        Err(error) => (
            format!("Code Forge at {url} does not answer: {error}"),
            "check CODE_FORGE_URL, and what is between it and this worker",
        ),
    };
    Finding::failed(Check::CodeForge, what, fix)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn only_a_good_answer_is_ok_and_anything_else_says_what_to_check() {
        assert_eq!(judge("http://c", Ok(StatusCode::OK)).state, State::Ok);
        for answer in [Ok(StatusCode::SERVICE_UNAVAILABLE), Ok(StatusCode::FOUND), Err("connection refused".to_owned())]
        {
            let found = judge("http://c", answer);
            assert_eq!(found.state, State::Failed);
            assert!(found.what.contains("http://c") && found.fix.contains("CODE_FORGE_URL"), "{found:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_used_is_not_asked() {
        assert_eq!(look(None).await.state, State::Ok);
    }
}
