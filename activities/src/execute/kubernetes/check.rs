//! What a cluster is and what this worker may do in it, for start-up checks.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};

use super::client::Cluster;
use crate::external::Fault;

/// Resources, and what the runtime does with them: the worker's Role.
const NEEDED: &[(&str, &str, &[&str])] = &[
    ("batch", "jobs", &["create", "list", "watch", "patch", "delete"]),
    ("", "pods", &["list", "watch"]),
    ("", "pods/log", &["get"]),
];
/// For the trial only, which is never carried out.
const FOR_TRIAL: (&str, &str, &[&str]) = ("", "pods", &["create"]);

/// What a cluster says of itself and of this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Version of the API server, such as `v1.35.4`.
    pub version: String,
    /// What this worker may not do and has to: `create jobs`, …
    pub forbidden: Vec<String>,
}

impl Cluster {
    /// What the cluster is, and what this worker may not do in it. `trial`: whether pods are tried before their Jobs.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn facts(&self, trial: bool) -> Result<ClusterFacts, Fault> {
        let version = self.version().await?;
        let mut forbidden = Vec::new();
        for (group, resource, verbs) in NEEDED.iter().chain(trial.then_some(&FOR_TRIAL)) {
            for verb in *verbs {
                if !self.may(&question(self.namespace(), group, resource, verb)).await? {
                    forbidden.push(format!("{verb} {resource}"));
                }
            }
        }
        Ok(ClusterFacts { version, forbidden })
    }
}

fn question(namespace: &str, group: &str, resource: &str, verb: &str) -> SelfSubjectAccessReview {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_of_a_resource_is_asked_for_as_one() {
        let asked = serde_json::to_value(question("n", "", "pods/log", "get")).expect("JSON");
        let attributes = &asked["spec"]["resourceAttributes"];
        assert_eq!((&attributes["resource"], &attributes["subresource"]), (&json!("pods"), &json!("log")));
        assert_eq!((&attributes["namespace"], &attributes["verb"]), (&json!("n"), &json!("get")));
        assert_eq!(
            (&asked["kind"], &asked["apiVersion"]),
            (&json!("SelfSubjectAccessReview"), &json!("authorization.k8s.io/v1"))
        );
    }
}
