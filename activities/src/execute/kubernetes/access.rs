//! How a cluster is reached, and as whom.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::jiff::Timestamp;
use kube::client::{AuthError, ConfigExt as _};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use super::plugin::Credentials;
use crate::external::{Fault, reasons};

/// Until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For a plugin that fetches credentials.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the address of the API server and the credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A kubeconfig file, with its current context.
    Kubeconfig(PathBuf),
    /// The service account of the pod that this worker runs in.
    InCluster,
}

/// A client, and how long its credentials are good.
pub(super) struct Connected {
    pub(super) client: Client,
    until: Option<Timestamp>,
}

impl Connected {
    /// Whether its credentials are good for another call.
    pub(super) fn is_good(&self) -> bool {
        self.until.is_none_or(|until| Timestamp::now() < until)
    }
}

impl Access {
    /// A client made of what is there now.
    ///
    /// # Errors
    /// [`Fault::SetupRefused`] when that is not to be read or makes no sense, [`Fault::Unavailable`] when it does not come.
    pub(super) async fn connect(&self) -> Result<Connected, Fault> {
        let refused = |why: String| Fault::SetupRefused {
            cause: format!("the cluster's address and credentials cannot be had from {self}: {why}"),
        };
        let mut config = match self {
            Self::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| refused(unread(&error)))?;
                if names_a_proxy(&file) {
                    return Err(refused("its cluster has a proxy-url, which is not supported".to_owned()));
                }
                let read = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
                read.map_err(|error| refused(unread(&error)))?
            }
            Self::InCluster => Config::incluster().map_err(|error| refused(reasons(&error)))?,
        };
        if let Some(why) = open_to_others(&config) {
            return Err(refused(why));
        }
        if config.auth_info.auth_provider.is_some() {
            return Err(refused(
                "its user has an auth-provider, which is not supported; use an exec plugin".to_owned(),
            ));
        }
        let mut until = None;
        if let Some(exec) = &config.auth_info.exec {
            let fetched = tokio::time::timeout(CREDENTIALS_TIMEOUT, Credentials::fetch(exec)).await;
            let Ok(fetched) = fetched else {
                let cause =
                    format!("no credentials from {self} within {} s; run its plugin", CREDENTIALS_TIMEOUT.as_secs());
                return Err(Fault::Unavailable { cause, after: None });
            };
            until = fetched.map_err(refused)?.put(&mut config.auth_info);
        }
        match client(config) {
            Ok(client) => Ok(Connected { client, until }),
            Err(kube::Error::Auth(error)) => Err(no_credentials(&error)),
            Err(error) => Err(refused(reasons(&error))),
        }
    }
}

/// Why somebody between this worker and the API server could read its credentials or answer for it; this machine is not between.
fn open_to_others(config: &Config) -> Option<String> {
    let host = config.cluster_url.host().unwrap_or_default();
    let is_here = host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if is_here {
        None
    } else if config.cluster_url.scheme_str() != Some("https") {
        Some("its server is not called by https, so that the credentials could be read".to_owned())
    } else {
        let words = "its cluster has insecure-skip-tls-verify; name the certificate-authority instead";
        config.accept_invalid_certs.then(|| words.to_owned())
    }
}

/// kube's client without what its default one does by itself: it would repeat what was not answered well, unseen by the
/// protocol, which decides about that. Nor is there a proxy: kube takes one of the environment where a kubeconfig has none.
fn client(config: Config) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace))
}

/// Whether the cluster of the current context is to be reached through a proxy.
fn names_a_proxy(file: &Kubeconfig) -> bool {
    let context = file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref());
    let name = context.and_then(|context| Some(&context.context.as_ref()?.cluster));
    let cluster = file.clusters.iter().find(|cluster| Some(&cluster.name) == name);
    let proxy = cluster.and_then(|cluster| cluster.cluster.as_ref()?.proxy_url.as_deref());
    proxy.is_some_and(|proxy| !proxy.is_empty())
}

/// Why a kubeconfig cannot be read. What the file says is left out: it holds credentials.
fn unread(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(_) => "it is no kubeconfig; read it with `kubectl config view`".to_owned(),
        other => reasons(other),
    }
}

/// Why there are no credentials.
pub(super) fn no_credentials(error: &AuthError) -> Fault {
    Fault::SetupRefused { cause: format!("the credentials for the cluster cannot be had: {}", reasons(error)) }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kubeconfig(path) => write!(f, "kubeconfig {}", path.display()),
            Self::InCluster => f.write_str("the pod's service account"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;

    async fn connecting(text: &str) -> Result<Connected, Fault> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        Access::Kubeconfig(file.path().to_owned()).connect().await
    }

    /// A port where somebody takes connections and says nothing, and a kubeconfig for it.
    pub(in crate::execute::kubernetes) fn silent() -> (std::net::TcpListener, tempfile::NamedTempFile) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = format!("http://{}", listener.local_addr().expect("its address"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = kubeconfig(&json!({ "server": server }), &json!({ "token": "t" }));
        std::fs::write(file.path(), text).expect("written");
        (listener, file)
    }

    /// A kubeconfig with this cluster and this user.
    fn kubeconfig(cluster: &Value, user: &Value) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": cluster }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": user }],
        })
        .to_string()
    }

    fn plugin(script: &str) -> Value {
        json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script],
            "env": [{ "name": "SECRET", "value": "hunter2" }], "interactiveMode": "Never",
        } })
    }

    async fn refusal(text: &str) -> String {
        match connecting(text).await {
            Err(Fault::SetupRefused { cause }) => cause,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("a client"),
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_missing_or_says_nothing_is_named_and_not_quoted() {
        let missing = Access::Kubeconfig("/nonexistent/config".into()).connect().await.err().expect("no client");
        assert!(missing.to_string().contains("kubeconfig /nonexistent/config"), "{missing}");
        let empty = refusal("apiVersion: v1\nkind: Config\n").await;
        assert!(empty.contains("cannot be had from kubeconfig"), "{empty}");
        let broken = refusal("apiVersion: v1\nusers: [{name: u, user: {token: hunter2}}, {]\n").await;
        assert!(broken.contains("no kubeconfig") && !broken.contains("hunter2"), "{broken}");
    }

    #[tokio::test]
    async fn only_a_proxy_of_the_kubeconfig_itself_is_refused_and_its_password_is_not_told() {
        let server = "http://127.0.0.1:1";
        let through = json!({ "server": server, "proxy-url": "http://user:hunter2@proxy:3128" });
        let refused = refusal(&kubeconfig(&through, &json!({ "token": "t" }))).await;
        assert!(refused.contains("proxy-url") && !refused.contains("hunter2"), "{refused}");
        let direct = json!({ "server": server, "proxy-url": "" });
        assert!(connecting(&kubeconfig(&direct, &json!({ "token": "t" }))).await.is_ok());
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_told_without_what_it_was_given_or_wrote() {
        let cluster = json!({ "server": "http://127.0.0.1:1" });
        for (script, words) in
            [("echo $SECRET; echo $SECRET >&2; exit 3", "exit status: 3"), ("echo \"[$SECRET\"", "no ExecCredential")]
        {
            let refused = refusal(&kubeconfig(&cluster, &plugin(script))).await;
            assert!(refused.contains(words) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_holds_up_nobody_for_long_and_is_ended() {
        let pid = tempfile::NamedTempFile::new().expect("a file");
        let script = format!("echo $$ > {}; exec sleep 600", pid.path().display());
        let kubeconfig = kubeconfig(&json!({ "server": "http://127.0.0.1:1" }), &plugin(&script));
        let begun = Instant::now();
        let fault = connecting(&kubeconfig).await.err();
        assert!(matches!(fault, Some(Fault::Unavailable { .. })), "{fault:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        let pid = std::fs::read_to_string(pid.path()).expect("it was run");
        let command = format!("/proc/{}/cmdline", pid.trim());
        while std::fs::read_to_string(&command).is_ok_and(|words| words.contains("sleep")) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it runs on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn credentials_are_sent_to_nobody_who_is_not_known_to_be_the_cluster() {
        let user = json!({ "token": "hunter2" });
        for (cluster, words) in [
            (json!({ "server": "http://10.0.0.7:8080" }), Some("https")),
            (json!({ "server": "http://127.0.0.1.example.org" }), Some("https")),
            (
                json!({ "server": "https://api.example.org", "insecure-skip-tls-verify": true }),
                Some("insecure-skip-tls-verify"),
            ),
            (json!({ "server": "https://api.example.org" }), None),
            (json!({ "server": "http://localhost:8001" }), None),
            (json!({ "server": "https://[::1]:6443", "insecure-skip-tls-verify": true }), None),
        ] {
            let text = kubeconfig(&cluster, &user);
            match words {
                Some(words) => assert!(refusal(&text).await.contains(words), "{cluster}"),
                None => assert!(connecting(&text).await.is_ok(), "{cluster}"),
            }
        }
    }

    #[tokio::test]
    async fn a_clouds_own_login_is_refused_and_its_command_is_not_run() {
        let config = json!({ "cmd-path": "sh", "cmd-args": "-c 'echo {}'", "id-token": "hunter2" });
        for name in ["gcp", "oidc", "azure"] {
            let user = json!({ "auth-provider": { "name": name, "config": config } });
            let refused = refusal(&kubeconfig(&json!({ "server": "http://127.0.0.1:1" }), &user)).await;
            assert!(refused.contains("auth-provider") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
