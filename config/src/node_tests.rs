//! Settings of nodes, and the example files.

use super::*;

fn configuration(flags: &[&str]) -> Configuration {
    let flags = flags.iter().map(|flag| (*flag).to_string()).collect();
    load(&Sources { flags, ..Sources::default() }).expect("a configuration").configuration
}

fn refused(flags: &[&str]) -> String {
    NodeSettings::of(&configuration(flags)).expect_err("refused").to_string()
}

#[test]
fn a_node_is_both_managers_unless_it_is_told_otherwise() {
    let node = NodeSettings::of(&configuration(&[])).expect("defaults can be used");
    assert!(node.roles.job_manager && node.roles.task_manager);
    assert!(node.slots >= 1 && node.high_availability.is_none() && node.certificates.is_none());
    assert_eq!(node.bind_address, node.address);
    assert_eq!(node.heartbeat.timeout, Duration::from_secs(1));
    assert_eq!(node.folder, Path::new("out/node"));
    let named = NodeSettings::of(&configuration(&["node.name=b"])).expect("can be used");
    assert_eq!(named.folder, Path::new("out/b"), "nodes of one file must not share a folder");
}

#[test]
fn everything_that_is_set_arrives() {
    let node = NodeSettings::of(&configuration(&[
        "node.name=b",
        "node.roles=task-manager",
        "node.labels=zone:a,disk:fast",
        "node.address=b.example:6121",
        "node.bind-address=0.0.0.0:6121",
        "cluster.job-managers=a.example:6121;c.example:6121",
        "taskmanager.numberOfTaskSlots=3",
        "process.working-dir=/var/lib/millstream",
        "security.certificate-file=b.pem",
        "security.key-file=b.key",
        "security.authority-file=ca.pem",
        "high-availability.type=object-store",
        "high-availability.storageDir=s3://bucket/ha/",
        "high-availability.cluster-id=/payments",
    ]))
    .expect("can be used");
    assert!(!node.roles.job_manager && node.roles.task_manager);
    assert_eq!((node.name.as_deref(), node.slots), (Some("b"), 3));
    assert_eq!(node.folder, Path::new("/var/lib/millstream"));
    assert_eq!(node.labels.0, [("zone".to_string(), "a".to_string()), ("disk".to_string(), "fast".to_string())]);
    assert_eq!((node.address.as_str(), node.bind_address.as_str()), ("b.example:6121", "0.0.0.0:6121"));
    assert_eq!(node.job_managers, ["a.example:6121", "c.example:6121"]);
    assert_eq!(node.certificates.expect("set").authority, Path::new("ca.pem"));
    let high_availability = node.high_availability.expect("set");
    assert_eq!(high_availability.storage, "s3://bucket/ha/payments");
    assert_eq!(high_availability.lease, Duration::from_secs(2));
}

#[test]
fn what_is_missing_or_contradicts_itself_is_named() {
    for (flags, parts) in [
        (&["node.roles=task-manager"][..], &["cluster.job-managers", "must know one"][..]),
        (&["high-availability.type=object-store"], &["high-availability.storageDir", "outlives"]),
        (&["security.key-file=a.key"], &["security.certificate-file", "together"]),
        (&["heartbeat.interval=800ms"], &["heartbeat.timeout", "twice"]),
        (&["heartbeat.interval=0"], &["heartbeat.interval", "not be 0"]),
        (&["node.address=here"], &["'here'", "host:port"]),
        (&["cluster.job-managers=a.example"], &["'a.example'", "host:port"]),
    ] {
        let text = refused(flags);
        for part in parts {
            assert!(text.contains(part), "{flags:?}: {text}");
        }
    }
}

fn example(name: &str) -> Sources {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    Sources { file: Some(file), ..Sources::default() }
}

#[test]
fn the_cluster_on_one_host_has_a_job_manager_and_two_task_managers() {
    let cluster = load_cluster(&example("local-cluster.toml")).expect("can be used");
    assert_eq!(cluster.warnings, []);
    let nodes: Vec<NodeSettings> =
        cluster.nodes.iter().map(|node| NodeSettings::of(&node.configuration).expect("can be used")).collect();
    let roles: Vec<(bool, bool)> = nodes.iter().map(|node| (node.roles.job_manager, node.roles.task_manager)).collect();
    assert_eq!(roles, [(true, false), (false, true), (false, true)]);
    assert_eq!(nodes.iter().map(|node| node.slots).sum::<u32>(), 4);
    let job_manager = nodes[0].address.clone();
    assert!(nodes[1..].iter().all(|node| node.job_managers == [job_manager.clone()]));
    let folders: std::collections::BTreeSet<_> = nodes.iter().map(|node| node.folder.clone()).collect();
    assert_eq!(folders.len(), 3, "each has a folder of its own");
}

#[test]
fn the_other_examples_are_nodes_that_can_be_used() {
    let names = ["three-hosts/a.toml", "three-hosts/b.toml", "three-hosts/c.toml"];
    let highly_available = ["highly-available-s3/a.toml", "highly-available-s3/b.toml", "highly-available-s3/c.toml"];
    for name in names.iter().chain(&highly_available) {
        let loaded = load(&example(name)).expect("can be read");
        assert_eq!(loaded.warnings, [], "{name}");
        let node = NodeSettings::of(&loaded.configuration).expect(name);
        assert!(node.certificates.is_some(), "{name}");
        assert_eq!(node.high_availability.is_some(), name.starts_with("highly"), "{name}");
        assert!(loaded.configuration.get(&keys::CHECKPOINT_DIR).is_some(), "{name}: all nodes see the checkpoints");
    }
}

#[test]
fn the_nodes_of_the_kubernetes_manifests_can_be_used() {
    let manifests = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes.yaml"));
    let manifests = manifests.expect("it is there");
    let (_, rest) = manifests.split_once("node.toml: |\n").expect("it holds the settings of a node");
    let settings: Vec<&str> = rest.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, settings.join("\n")).expect("writes");
    // The rest comes from the environment of the pod.
    let of_pod = [("NAME", "millstream-0"), ("ADDRESS", "millstream-0.millstream:6121")];
    let environment = of_pod.map(|(key, value)| (format!("MILLSTREAM_NODE__{key}"), value.to_string())).to_vec();
    let loaded = load(&Sources { file: Some(file), environment, ..Sources::default() }).expect("can be read");
    assert_eq!(loaded.warnings, []);
    let node = NodeSettings::of(&loaded.configuration).expect("can be used");
    assert!(node.job_managers.contains(&node.address), "it is one of those that are looked for");
    assert_eq!(node.name.as_deref(), Some("millstream-0"));
    assert!(node.high_availability.is_some() && node.certificates.is_some());
}

#[test]
fn a_file_without_nodes_and_a_node_with_a_typing_error_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let load = |text: &str| {
        let file = folder.path().join("cluster.toml");
        std::fs::write(&file, text).expect("writes");
        load_cluster(&Sources { file: Some(file), ..Sources::default() })
    };
    assert!(load("rest.port = 1").expect_err("no node").to_string().contains("[nodes.NAME]"));
    let cluster = load("[nodes.a]\nrest.prot = 1\n[nodes.b]\nrest.port = 2\n").expect("can be read");
    assert_eq!(cluster.warnings.len(), 1);
    assert!(cluster.warnings[0].to_string().contains("did you mean rest.port"), "{}", cluster.warnings[0]);
    assert_eq!(cluster.nodes[1].configuration.get(&keys::REST_PORT), 2);
    assert!(load("[nodes.a]\nrest.port = \"x\"\n").is_err());
}
