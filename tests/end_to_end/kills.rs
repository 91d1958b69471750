//! `kill -9` of the worker: one start and one outcome each.

use std::time::{Duration, Instant};

use crate::world::{World, command_lines, eventually, processes};

#[tokio::test(flavor = "multi_thread")]
async fn inc_15_inc_22_a_killed_worker_loses_nothing_and_doubles_nothing() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    let marker = format!("61.8{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"));
    let running = world.ticket("running", &format!("echo begun; sleep {marker} & sleep 2; echo done"));
    let once = world.ticket("once", "echo once");
    world.publish_avro(&once).await;
    world.publish(&once).await;
    world.publish(&running).await;
    eventually("the command runs", || (processes(&marker) > 0).then_some(())).await;
    worker.kill_9();
    eventually("the killed worker's command is gone", || (processes(&marker) == 0).then_some(())).await;
    // Under way while nobody is there.
    world.publish_avro(&world.ticket("late", "echo late")).await;

    let worker = world.worker(&[]).await;
    for (name, output) in [("once", "once\n"), ("late", "late\n"), ("running", "begun\ndone\n")] {
        let result = world.result(name).await;
        assert_eq!(result["status"], "COMPLETED", "{result}");
        assert_eq!(result["result"]["output"]["stdout"], output, "{name}");
        assert_eq!(world.runs(name), 1, "{name}");
    }
    let rerun = world.result("running").await;
    assert_eq!(rerun["result"]["metadata"]["external_state"], "unknown", "it may have run before");
    assert_eq!(rerun["result"]["metadata"]["attempt_count"], "1", "a lost worker uses up no attempt");
    assert!(worker.metric(r#"worker_agent_records_total{disposition="dead_lettered"}"#).await < 0.5);
    assert!(world.dead_letters().is_empty());
}

/// What `pkill` by name or a service manager does: everybody is told to end at once.
#[tokio::test(flavor = "multi_thread")]
async fn supervisors_that_are_told_to_end_while_their_worker_is_killed_end_their_commands() {
    let world = World::new().await;
    let mut worker = world.worker(&[]).await;
    let marker = format!("70.7{}", u32::from_str_radix(&world.id[..6], 16).expect("hex"));
    world.publish(&world.ticket("running", &format!("trap '' TERM; sleep {marker}; sleep {marker}"))).await;
    eventually("the command runs", || (processes(&marker) >= 3).then_some(())).await;
    let (supervisor, _) =
        command_lines(&marker).into_iter().find(|(_, line)| line.contains("supervise-process")).expect("a supervisor");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::Signal::SIGTERM).expect("told");
    worker.kill_9();
    eventually("the command is gone", || (processes(&marker) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_odd_moments_leave_one_outcome_each() {
    const TICKETS: usize = 24;
    let world = World::new().await;
    // Odd, not random: the same moments each run.
    for (round, moment_ms) in [150u64, 900, 3300, 3900].into_iter().enumerate() {
        for n in 0..TICKETS / 4 {
            let name = format!("{}", round * TICKETS / 4 + n);
            let ticket = world.ticket(&name, &format!("sleep 0.{n}; echo {name}"));
            if n % 2 == 0 {
                world.publish(&ticket).await
            } else {
                world.publish_avro(&ticket).await
            }
            if n % 3 == 0 {
                world.publish(&ticket).await;
            }
        }
        let started = Instant::now();
        let mut worker = world.spawn(&[]);
        tokio::time::sleep(Duration::from_millis(moment_ms).saturating_sub(started.elapsed())).await;
        worker.kill_9();
    }
    let _worker = world.worker(&[]).await;
    for name in (0..TICKETS).map(|n| n.to_string()) {
        let result = world.result(&name).await;
        assert_eq!(result["status"], "COMPLETED", "{result}");
        assert_eq!(result["result"]["output"]["stdout"], format!("{name}\n"));
        assert_eq!(world.runs(&name), 1, "{name}");
    }
    assert_eq!(world.results().len(), TICKETS);
    assert!(world.dead_letters().is_empty());
}
