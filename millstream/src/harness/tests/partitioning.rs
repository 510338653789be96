//! Which subtask gets which record.

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

/// Emits each record with the subtask that saw it, told apart by a random address of its own copy.
#[derive(Clone)]
struct Witness {
    copies: std::sync::Arc<std::sync::atomic::AtomicU64>,
    me: Option<u64>,
}

impl Witness {
    fn new() -> Self {
        Self { copies: std::sync::Arc::default(), me: None }
    }
}

impl ProcessFunction for Witness {
    type In = u64;
    type Out = (u64, u64);

    fn process(&mut self, value: u64, cx: &mut ProcessContext<'_, (u64, u64)>) -> Result<(), PortError> {
        let copies = &self.copies;
        let me = *self.me.get_or_insert_with(|| copies.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        cx.emit((me, value));
        Ok(())
    }
}

/// Records by the subtask that saw them.
fn seen(partition: impl Fn(&DataStream<u64>) -> DataStream<u64>) -> Vec<Vec<u64>> {
    let env = environment(3);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    let output = Collected::from(&partition(&numbers).process(Witness::new()));
    let mut harness = Harness::with_options(&env, tight(1)).unwrap();
    (0..12).for_each(|n| input.push(n));
    harness.run().unwrap();
    let mut by_subtask = vec![Vec::new(); 3];
    for (subtask, value) in output.take() {
        by_subtask[usize::try_from(subtask).unwrap()].push(value);
    }
    by_subtask.retain(|values| !values.is_empty());
    sorted(by_subtask)
}

#[test]
fn rebalance_takes_turns_and_keeps_the_order_within_a_subtask() {
    let dealt = vec![vec![0, 3, 6, 9], vec![1, 4, 7, 10], vec![2, 5, 8, 11]];
    assert_eq!(seen(DataStream::rebalance), dealt);
    assert_eq!(seen(DataStream::rescale), dealt);
    assert_eq!(seen(DataStream::forward), dealt, "another parallelism makes forward a rebalance");
}

#[test]
fn global_broadcast_and_custom_go_where_they_say() {
    let all: Vec<u64> = (0..12).collect();
    assert_eq!(seen(DataStream::global), std::slice::from_ref(&all));
    assert_eq!(seen(|stream| stream.broadcast().as_stream().clone()), vec![all; 3]);
    let custom = seen(|stream| stream.partition_custom(|n, channels| if *n < 8 { 0 } else { channels - 1 }));
    assert_eq!(custom, [(0..8).collect::<Vec<_>>(), (8..12).collect()]);
}

#[test]
fn all_records_of_a_key_meet_in_one_subtask() {
    let by_key = seen(|stream| stream.key_by(|n| n % 5).as_stream().clone());
    for remainder in 0..5 {
        let holders = by_key.iter().filter(|values| values.iter().any(|n| n % 5 == remainder)).count();
        assert_eq!(holders, 1, "key {remainder} in {by_key:?}");
    }
}

#[test]
fn settings_reach_the_plan() {
    let env = environment(2);
    let (_, numbers) = TestInput::<u64>::new(&env, "numbers");
    let mapped = numbers.rebalance().map(|n| n).uid("first").name("First");
    mapped.map(|n| n).uid("second").print().uid("out").name("Out");
    mapped.filter(|_| true).uid("alone").disable_chaining().map(|n| n).uid("behind").set_parallelism(1).discard();
    let options = millstream_runtime::graph::chaining::PlanOptions {
        name: "plan".into(),
        parallelism: 2,
        max_parallelism: 8,
        chaining: true,
    };
    let job = millstream_runtime::graph::chaining::plan(env.take_graph(), &options).unwrap();
    let chains: Vec<String> = job
        .vertices
        .iter()
        .map(|vertex| {
            let uids: Vec<_> = vertex.operators.iter().map(|uid| uid.0.as_str()).collect();
            format!("{} x{}", uids.join(" "), vertex.parallelism)
        })
        .collect();
    assert_eq!(chains, ["numbers x1", "first second out x2", "alone x2", "behind x1", "Discard x2"]);
    assert_eq!(job.vertices[1].name, "First -> Map -> Out");
}

fn planned(env: &Environment) -> millstream_runtime::graph::JobGraph {
    let options = millstream_runtime::graph::chaining::PlanOptions {
        name: "plan".into(),
        parallelism: env.parallelism(),
        max_parallelism: 8,
        chaining: true,
    };
    millstream_runtime::graph::chaining::plan(env.take_graph(), &options).unwrap()
}

#[test]
fn a_job_has_the_same_vertices_at_every_parallelism_and_each_may_have_its_own() {
    let job = |parallelism| {
        let env = environment(parallelism);
        let rows = env.from_collection("rows", vec![1_u64, 2]).uid("rows").map(|n| n).uid("map");
        rows.map(|n| n)
            .uid("two")
            .set_parallelism(2)
            .map(|n| n)
            .uid("also two")
            .set_parallelism(2)
            .discard()
            .uid("end");
        planned(&env)
    };
    let ids = |job: &millstream_runtime::graph::JobGraph| job.vertices.iter().map(|v| v.id).collect::<Vec<_>>();
    let job_of_two = job(2);
    for parallelism in 1..=3 {
        let job = job(parallelism);
        assert_eq!(ids(&job), ids(&job_of_two));
        assert_eq!(job.vertices.iter().map(|v| v.operators.len()).collect::<Vec<_>>(), [1, 1, 2, 1]);
        assert_eq!(
            job.vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>(),
            [1, parallelism, 2, parallelism],
            "what the program sets stays"
        );
    }
    let [rows, map, two, _] = ids(&job_of_two)[..] else { panic!("four vertices") };
    let strategies = |job: &millstream_runtime::graph::JobGraph| {
        job.edges.iter().map(|edge| edge.strategy.name()).collect::<Vec<_>>()
    };
    assert_eq!(strategies(&job_of_two), ["REBALANCE", "FORWARD", "FORWARD"]);
    let changed = job_of_two.with_parallelism(&[(map, 1), (two, 3)].into()).unwrap();
    assert_eq!(changed.vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>(), [1, 1, 3, 2]);
    assert_eq!(strategies(&changed), ["FORWARD", "REBALANCE", "REBALANCE"]);
    let refused = |vertex, parallelism| match job_of_two.with_parallelism(&[(vertex, parallelism)].into()) {
        Ok(_) => panic!("{vertex} with {parallelism}"),
        Err(error) => error.to_string(),
    };
    assert!(refused(map, 9).contains("more than the 8 key groups"));
    assert!(refused(map, 0).contains("at least 1"));
    assert!(refused(rows, 2).contains("'rows' cannot work in parallel"));
    let unknown = refused(millstream_runtime::ids::VertexId::from_name("other"), 1);
    assert!(unknown.contains(&format!("{map} (Map)")), "{unknown}");
}

#[test]
fn operators_share_the_slots_of_their_inputs_unless_they_have_different_ones_or_are_told_otherwise() {
    let env = environment(2);
    let numbers = env.from_sequence("numbers", 0..=9).uid("numbers");
    let heavy = numbers.map(|n| n).uid("heavy").slot_sharing_group("heavy");
    let behind = heavy.filter(|_| true).uid("behind");
    behind.union(&heavy).map(|n| n).uid("both heavy").discard().uid("heavy end");
    behind.union(&numbers).map(|n| n).uid("mixed").discard().uid("mixed end");
    let job = planned(&env);
    let groups: Vec<(String, &str)> = job
        .vertices
        .iter()
        .map(|vertex| {
            let uids: Vec<_> = vertex.operators.iter().map(|uid| uid.0.as_str()).collect();
            (uids.join(" "), vertex.slot_sharing_group.0.as_str())
        })
        .collect();
    let expected = [
        ("numbers", "default"),
        ("heavy behind", "heavy"),
        ("both heavy heavy end", "heavy"),
        ("mixed mixed end", "default"),
    ];
    assert_eq!(groups, expected.map(|(uids, group)| (uids.to_string(), group)), "chains end where groups do");
    assert_eq!(job.slots(), 4);
}
