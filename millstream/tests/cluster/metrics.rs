//! What is measured in processes that serve no REST: the leader shows it, and Prometheus scrapes each of them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::jobs::{Fraud, Tormented};
use super::processes::{Cluster, Shape, until};
use super::support::rest::Rest;
use super::{MILLSTREAM, RATE};

/// A number among what `/…/metrics?get=` answers.
fn figure(answer: &Value, name: &str) -> Option<f64> {
    let all = answer.as_array()?;
    all.iter().find(|metric| metric["id"] == name)?["value"].as_str()?.parse().ok()
}

#[test]
fn every_node_tells_the_leader_and_prometheus_what_its_process_takes_and_how_fast_its_subtasks_are() {
    let shape = Shape { job_managers: 1, task_managers: 2, slots: 2, restart: false };
    let job = Fraud::new("cluster-metrics", 8_000, 15);
    let settings = "metrics.reporter.prom.port = \"0\"\nmetrics.fetcher.update-interval = \"200 ms\"\ntaskmanager.memory.managed.size = \"64 mb\"";
    let cluster = Cluster::start_over("metrics", Path::new(MILLSTREAM), &shape, "", settings);
    let id = job.submit(&cluster, RATE);

    for manager in ["task-manager-0", "task-manager-1"] {
        let own = format!("/taskmanagers/{manager}");
        let hardware = until("its process is known", || {
            let (_, told) = cluster.ask(&own)?;
            told["hardware"]["cpuCores"].as_u64().filter(|cores| *cores > 0).map(|_| told["hardware"].clone())
        });
        assert_eq!(hardware["managedMemory"], 64 << 20, "{hardware}");
        assert!(hardware["freeMemory"].as_u64() < hardware["physicalMemory"].as_u64(), "{hardware}");
        until("it works", || {
            let names = "Status.JVM.CPU.Load,Status.JVM.Memory.Heap.Used,Status.JVM.Threads.Count";
            let (_, told) = cluster.ask(&format!("{own}/metrics?get={names}"))?;
            let of_it = |name| figure(&told, name).expect("it has all of them");
            assert!(of_it("Status.JVM.Memory.Heap.Used") > 1e6 && of_it("Status.JVM.Threads.Count") > 1.0, "{told}");
            (of_it("Status.JVM.CPU.Load") > 0.0).then_some(())
        });
    }
    let (_, leader) = cluster.ask("/jobmanager/metrics?get=Status.JVM.CPU.Time,taskSlotsTotal").expect("it answers");
    assert!(figure(&leader, "Status.JVM.CPU.Time").is_some_and(|time| time > 0.0), "{leader}");
    assert_eq!(figure(&leader, "taskSlotsTotal"), Some(4.0));

    // Rates of subtasks elsewhere: all of them together read as fast as the job may.
    let (_, told) = cluster.ask(&format!("/jobs/{id}")).expect("it answers");
    let vertices: Vec<&str> =
        told["vertices"].as_array().expect("a list").iter().filter_map(|v| v["id"].as_str()).collect();
    until("records flow", || {
        let rate = |vertex: &&str| {
            let asked = format!("/jobs/{id}/vertices/{vertex}/subtasks/metrics?get=numRecordsOutPerSecond&agg=sum");
            let (_, told) = cluster.ask(&asked)?;
            told[0]["sum"].as_f64()
        };
        vertices.iter().filter_map(rate).any(|rate| rate > 500.0).then_some(())
    });

    let log = cluster.log();
    let endpoints =
        log.lines().filter_map(|line| line.split_once("Prometheus can scrape http://127.0.0.1:")?.1.split_once('/'));
    let texts: Vec<String> = endpoints
        .map(|(port, path)| {
            Rest::at(std::net::Ipv4Addr::LOCALHOST, port.parse().expect("a port"))
                .text(&format!("/{path}"))
                .expect("it answers")
        })
        .collect();
    assert_eq!(texts.len(), 3, "{log}");
    let with = |family: &str| texts.iter().filter(|text| text.contains(&format!("\n{family}{{"))).count();
    assert_eq!(with("flink_taskmanager_Status_JVM_CPU_Load"), 2);
    assert_eq!(with("flink_jobmanager_Status_JVM_CPU_Load"), 1);
    assert_eq!(with("flink_taskmanager_job_task_numRecordsInPerSecond"), 2, "both task managers have subtasks");
    let told: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| {
            ["task-manager-0", "task-manager-1"].into_iter().filter(|name| text.contains(&format!("tm_id=\"{name}\"")))
        })
        .collect();
    assert_eq!(told.len(), 2);

    cluster.until_finished(&id);
    job.check();
}
