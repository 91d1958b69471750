//! What pods are kept from, what is refused, and what the set-up has to allow.

use serde_json::{Value, json};

use crate::lane::{cluster, runs, ticket, world};
use crate::world::{eventually, processes, verdict};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn inc_73_a_restricted_namespace_admits_the_pod_which_has_scratch_and_no_token() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let script = "id -u; grep -e CapEff -e CapBnd -e NoNewPrivs -e Seccomp: /proc/self/status; \
                  touch /new 2>&1; touch /tmp/new && echo scratch; ls /var/run/secrets 2>&1; echo $HOME";
    world.publish(&ticket(&world, "confined", script)).await;
    let result = world.result("confined").await;
    let text = result["result"]["output"]["stdout"].as_str().unwrap_or_default().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"1000"), "{result}");
    assert!(text.contains("CapEff:\t0000000000000000") && text.contains("CapBnd:\t0000000000000000"), "{text}");
    assert!(text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"), "{text}");
    assert!(text.contains("/new: Read-only file system"), "{text}");
    assert!(lines.contains(&"scratch") && lines.contains(&"/tmp"), "{text}");
    assert!(text.contains("/var/run/secrets: No such file"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn inc_72_inc_74_privileges_and_other_accounts_are_refused_and_nothing_is_created() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    for (name, parameter, value, words) in [
        ("privileged", "privileged", json!(true), "privileged"),
        ("host", "host_network", json!(true), "host_network"),
        ("elsewhere", "namespace", json!("kube-system"), "namespace"),
        ("account", "service_account", json!("default"), "K8S_JOBS_ALLOWED_SERVICE_ACCOUNTS"),
    ] {
        let mut asks = ticket(&world, name, "echo it ran");
        asks["parameters"][parameter] = value;
        world.publish(&asks).await;
        let result = world.result(name).await;
        assert_eq!(verdict(&result), ("FAILED", "invalid_parameters", ""), "{name}: {result}");
        assert!(result.to_string().contains(words), "{name}: {result}");
        assert_eq!(cluster().changes(&world.ticket_id(name), "create"), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_ticket_never_reaches_a_shell_of_ours_and_nothing_in_it_is_expanded() {
    let world = world().await;
    let _worker = world.worker(&[]).await;
    let mut asks = ticket(&world, "words", "");
    asks["parameters"]["command"] = json!("echo $(id) ; touch /tmp/x | cat");
    asks["parameters"]["args"] = json!(["`id`", "&&", "$(HOME)", "$$", "$HOME"]);
    world.publish(&asks).await;
    let result = world.result("words").await;
    let expected = "$(id) ; touch /tmp/x | cat `id` && $(HOME) $$ $HOME\n";
    assert_eq!(result["result"]["output"]["stdout"], expected, "{result}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_used_up_quota_and_a_pod_that_is_not_admitted_are_told_apart_and_nothing_is_created() {
    for (namespace, words) in [("full", "quota is used up"), ("small", "does not admit")] {
        let world = world().await;
        let _worker = world.worker(&[("K8S_JOBS_NAMESPACE", namespace)]).await;
        world.publish(&ticket(&world, namespace, "echo it ran")).await;
        let result = world.result(namespace).await;
        assert_eq!(verdict(&result), ("FAILED", "provider_refused", ""), "{namespace}: {result}");
        assert!(result["error_message"].as_str().unwrap_or_default().contains(words), "{namespace}: {result}");
        assert_eq!(cluster().changes(&world.ticket_id(namespace), "create"), 0, "{namespace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn doctor_says_what_the_worker_may_not_do() {
    let world = world().await;
    let check = |settings: &[(&str, &str)]| -> Value {
        let said = world.command_with(&["doctor", "--json"], "", settings);
        let report: Value = serde_json::from_slice(&said.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["check"] == "kubernetes").expect("the check").clone()
    };
    let good = check(&[]);
    assert_eq!(good["state"], "ok", "{good}");
    assert!(good["what"].as_str().is_some_and(|what| what.contains("v1.35.4")), "{good}");
    let elsewhere = check(&[("K8S_JOBS_NAMESPACE", "default")]);
    assert_eq!(elsewhere["state"], "failed", "{elsewhere}");
    assert!(elsewhere["what"].as_str().is_some_and(|what| what.contains("create jobs, list jobs")), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Kubernetes cluster: make test-k8s"]
async fn a_fork_bomb_gets_no_more_processes_than_its_node_allows_a_pod_and_holds_up_nobody() {
    let world = world().await;
    let worker = world.worker(&[]).await;
    // So that neither is ended for its memory first.
    let bomb = |name: &str, script: &str| {
        let mut bomb = ticket(&world, name, script);
        bomb["parameters"]["memory_limit"] = json!("256Mi");
        bomb
    };
    // A shell that cannot fork ends.
    world.publish(&bomb("gives-up", "b() { b | b & b; }; b")).await;
    let result = world.result("gives-up").await;
    assert_eq!(verdict(&result), ("FAILED", "execution_failed", ""), "{result}");
    assert!(result["error_message"].as_str().unwrap_or_default().contains("can't fork"), "{result}");

    let mark = format!("6000.{}", u32::from_str_radix(&world.id[..8], 16).expect("a hexadecimal id"));
    let mut lasting =
        bomb("lasting", &format!("exec awk 'BEGIN {{ while (1) system(\"sleep {mark} &\") }}' 2>/dev/null"));
    lasting["parameters"]["timeout_seconds"] = json!(15);
    world.publish(&lasting).await;
    let limit = cluster().pod_processes;
    let most = eventually("it has nearly all processes that it may", || {
        let count = processes(&mark);
        assert!(count <= limit, "{count} processes, and a pod may have {limit}");
        (count > limit - 10).then_some(count)
    })
    .await;
    world.publish(&ticket(&world, "beside", "echo beside")).await;
    let beside = world.result("beside").await;
    assert_eq!(beside["result"]["output"]["stdout"], "beside\n", "{beside}");
    let result = world.result("lasting").await;
    assert_eq!(verdict(&result), ("FAILED", "timeout", "confirmed_stopped"), "{result}");
    assert!(!runs(&world, "lasting"));
    assert_eq!(processes(&mark), 0, "of {most}");
    assert_eq!(worker.get("/health").await.0, 200);
}
