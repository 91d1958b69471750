//! How a cluster is reached, and as whom.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, ServiceBuilder};

use crate::external::{Fault, reasons};

/// Until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the address of the API server and the credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A kubeconfig file, with its current context.
    Kubeconfig(PathBuf),
    /// The service account of the pod that this worker runs in.
    InCluster,
}

impl Access {
    /// A client made of what is there now.
    ///
    /// # Errors
    /// [`Fault::SetupRefused`] when that is not to be read or makes no sense.
    pub(super) async fn connect(&self) -> Result<Client, Fault> {
        let refused = |error: &dyn std::error::Error| Fault::SetupRefused {
            cause: format!("the cluster's address and credentials cannot be had from {self}: {}", reasons(error)),
        };
        let config = match self {
            Self::Kubeconfig(path) => {
                let file = Kubeconfig::read_from(path).map_err(|error| refused(&error))?;
                let read = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
                read.map_err(|error| refused(&error))?
            }
            Self::InCluster => Config::incluster().map_err(|error| refused(&error))?,
        };
        if let Some(proxy) = &config.proxy_url {
            return Err(Fault::SetupRefused { cause: format!("{self} names the proxy {proxy}, which is not supported") });
        }
        client(config).map_err(|error| refused(&error))
    }
}

/// kube's client without what its default one does by itself: it would repeat what was not answered well, unseen by the
/// protocol, which decides about that.
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

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kubeconfig(path) => write!(f, "kubeconfig {}", path.display()),
            Self::InCluster => f.write_str("the pod's service account"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(access: Access) -> String {
        match access.connect().await {
            Err(Fault::SetupRefused { cause }) => cause,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("a client"),
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_missing_or_says_nothing_is_named() {
        let missing = refusal(Access::Kubeconfig("/nonexistent/config".into())).await;
        assert!(missing.contains("kubeconfig /nonexistent/config"), "{missing}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "apiVersion: v1\nkind: Config\n").expect("written");
        let empty = refusal(Access::Kubeconfig(file.path().to_owned())).await;
        assert!(empty.contains("cannot be had from kubeconfig"), "{empty}");
    }
}
