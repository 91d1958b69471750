//! When the dev server is ready: it answers for the namespace, and the namespace has every search attribute.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use temporalio_client::{Connection, ConnectionOptions, RetryOptions, Url, tonic};
use temporalio_common::protos::temporal::api::enums::v1::IndexedValueType;
use temporalio_common::protos::temporal::api::operatorservice::v1::{
    AddSearchAttributesRequest, ListSearchAttributesRequest,
};
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeNamespaceRequest;
use ticket_workflows::SearchAttribute;

/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(100);
/// What one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(5);

/// Asks whether the server is ready.
pub(super) struct Probe {
    namespace: String,
    search_attributes: HashMap<String, IndexedValueType>,
    last_problem: Mutex<String>,
}

impl Probe {
    pub(super) fn new(namespace: &str, search_attributes: &[SearchAttribute]) -> anyhow::Result<Self> {
        let typed = |it: &SearchAttribute| Ok((it.name.to_owned(), value_type(it.name, it.kind)?));
        Ok(Self {
            namespace: namespace.to_owned(),
            search_attributes: search_attributes.iter().map(typed).collect::<anyhow::Result<_>>()?,
            last_problem: Mutex::new("nobody asked it".into()),
        })
    }

    /// Asks until it is.
    pub(super) async fn until_ready(&self, host: Ipv4Addr, port: u16) {
        let url = format!("http://{host}:{port}");
        loop {
            let problem = match tokio::time::timeout(TRY_LIMIT, self.ask(&url)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => format!("no answer within {} s", TRY_LIMIT.as_secs()),
            };
            *self.last_problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Why the last try was not good enough.
    pub(super) fn last_problem(&self) -> String {
        self.last_problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, url: &str) -> anyhow::Result<()> {
        let options = ConnectionOptions::new(Url::parse(url)?)
            .identity("worker-agents dev")
            .retry_options(RetryOptions::no_retries())
            .dns_load_balancing(None)
            .build();
        let connection = Connection::connect(options).await?;
        let namespace = self.namespace.clone();
        let request = DescribeNamespaceRequest { namespace: namespace.clone(), ..Default::default() };
        let described = connection.workflow_service().describe_namespace(tonic::Request::new(request)).await;
        described.with_context(|| format!("namespace {namespace}"))?;
        self.complete_search_attributes(&connection).await
    }

    /// Adds the attributes that are missing: the CLI registers its own only with a new database.
    async fn complete_search_attributes(&self, connection: &Connection) -> anyhow::Result<()> {
        let mut operator = connection.operator_service();
        let request = ListSearchAttributesRequest { namespace: self.namespace.clone() };
        let answer =
            operator.list_search_attributes(tonic::Request::new(request)).await.context("search attributes")?;
        let known = answer.into_inner().custom_attributes;
        let missing: HashMap<String, i32> = self
            .search_attributes
            .iter()
            .filter(|(name, _)| !known.contains_key(*name))
            .map(|(name, kind)| (name.clone(), *kind as i32))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut names: Vec<String> = missing.keys().cloned().collect();
        names.sort_unstable();
        let request = AddSearchAttributesRequest { search_attributes: missing, namespace: self.namespace.clone() };
        let added = operator.add_search_attributes(tonic::Request::new(request)).await;
        added.with_context(|| format!("search attributes {} cannot be added", names.join(", ")))?;
        // Ready only when the list says so: the server takes a moment to notice.
        bail!("search attributes {} are not there yet", names.join(", "));
    }
}

/// The type by the CLI's name of it.
fn value_type(name: &str, kind: &str) -> anyhow::Result<IndexedValueType> {
    Ok(match kind {
        "Text" => IndexedValueType::Text,
        "Keyword" => IndexedValueType::Keyword,
        "Int" => IndexedValueType::Int,
        "Double" => IndexedValueType::Double,
        "Bool" => IndexedValueType::Bool,
        "Datetime" => IndexedValueType::Datetime,
        "KeywordList" => IndexedValueType::KeywordList,
        _ => bail!(
            "search attribute {name} has type {kind}; use Text, Keyword, Int, Double, Bool, Datetime or KeywordList"
        ),
    })
}
