//! A kubeconfig's plugin for credentials, a program. kube would wait for one that hangs in a thread of its own, which nobody ends, run
//! it twice, and show it the worker's terminal and log.

use std::process::Stdio;

use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::config::{AuthInfo, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::border::border;

/// Credentials are fetched anew so long before they expire.
const BEFORE_EXPIRY: SignedDuration = SignedDuration::from_secs(60);

/// What a plugin writes.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<Credentials>,
}

/// What a plugin has fetched.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Credentials {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<Timestamp>,
}

impl Credentials {
    /// Runs the plugin, which is killed when nobody waits for it any more.
    ///
    /// # Errors
    /// Why there are none, without what the plugin was given or wrote: that may be credentials.
    pub(super) async fn fetch(exec: &ExecConfig) -> Result<Self, String> {
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            return Err("its plugin wants to ask somebody (interactiveMode Always), and nobody is there".to_owned());
        }
        let program = exec.command.as_deref().ok_or("its plugin has no command")?;
        let mut command = Command::new(program);
        command.args(exec.args.iter().flatten());
        for variable in exec.env.iter().flatten() {
            if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
                command.env(name, value);
            }
        }
        let spec = json!({ "interactive": false, "cluster": exec.cluster });
        let info = json!({ "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec });
        command.env("KUBERNETES_EXEC_INFO", info.to_string()).stdin(Stdio::null()).kill_on_drop(true);
        let output = border("kubernetes.plugin", command.output()).await;
        let output = output.map_err(|error| format!("its plugin {program} cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("its plugin ended with {}; run it to see why", output.status));
        }
        let written: Result<ExecCredential, _> = serde_json::from_slice(&output.stdout);
        written
            .ok()
            .and_then(|written| written.status)
            .filter(Self::are_some)
            .ok_or_else(|| "its plugin writes no ExecCredential in JSON; run it to see what it writes".to_owned())
    }

    fn are_some(&self) -> bool {
        self.token.is_some() || (self.client_certificate_data.is_some() && self.client_key_data.is_some())
    }

    /// Puts them where a kubeconfig has them, in the place of the plugin. From when on they are to be fetched anew.
    pub(super) fn put(self, user: &mut AuthInfo) -> Option<Timestamp> {
        user.exec = None;
        user.token = self.token.map(Into::into);
        if let (Some(certificate), Some(key)) = (self.client_certificate_data, self.client_key_data) {
            user.client_certificate_data = in_base64(certificate);
            user.client_key_data = in_base64(key).map(Into::into);
        }
        self.expiration_timestamp.and_then(|at| at.checked_sub(BEFORE_EXPIRY).ok())
    }
}

/// As the format has bytes.
fn in_base64(pem: String) -> Option<String> {
    match json!(ByteString(pem.into_bytes())) {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(script: &str, mode: &str) -> ExecConfig {
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
            "env": [{ "name": "GIVEN", "value": "hunter2" }], "interactiveMode": mode,
        });
        serde_json::from_value(exec).expect("a plugin")
    }

    #[tokio::test]
    async fn a_plugin_is_asked_for_credentials_and_has_no_terminal() {
        let script = r#"case $KUBERNETES_EXEC_INFO in *'"interactive":false'*) ;; *) exit 1 ;; esac
            cat >/dev/null; echo secret >&2
            echo "{\"status\": {\"token\": \"$GIVEN\", \"expirationTimestamp\": \"2026-01-01T00:10:00Z\"}}""#;
        let fetched = Credentials::fetch(&exec(script, "IfAvailable")).await.expect("credentials");
        let mut user = AuthInfo { exec: Some(exec(script, "Never")), ..AuthInfo::default() };
        let until = fetched.put(&mut user).expect("an end");
        assert_eq!(until.to_string(), "2026-01-01T00:09:00Z");
        let user = serde_json::to_value(&user).expect("JSON");
        assert_eq!((&user["token"], user.get("exec")), (&json!("hunter2"), None));
    }

    #[tokio::test]
    async fn certificates_are_put_where_a_kubeconfig_has_them() {
        let script = r#"echo '{"status": {"clientCertificateData": "cert", "clientKeyData": "key"}}'"#;
        let mut user = AuthInfo::default();
        let until = Credentials::fetch(&exec(script, "Never")).await.expect("credentials").put(&mut user);
        let user = serde_json::to_value(&user).expect("JSON");
        assert_eq!(
            (&user["client-certificate-data"], &user["client-key-data"], until),
            (&json!("Y2VydA=="), &json!("a2V5"), None)
        );
    }

    #[tokio::test]
    async fn a_plugin_that_has_nothing_or_wants_to_ask_somebody_is_refused() {
        for (script, mode, words) in [
            (r#"echo '{"status": {}}'"#, "Never", "no ExecCredential"),
            (r#"echo '{"status": {"clientCertificateData": "cert"}}'"#, "Never", "no ExecCredential"),
            ("exit 0", "Always", "interactiveMode Always"),
        ] {
            let why = Credentials::fetch(&exec(script, mode)).await.err().expect("none");
            assert!(why.contains(words), "{why}");
        }
    }
}
