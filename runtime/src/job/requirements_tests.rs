//! Every vertex gets what its bounds and its slots allow.

use super::*;
use crate::graph::stream::ShipStrategy;

fn chain(parallelism: &[u32]) -> JobGraph {
    let edges: Vec<_> = (1..parallelism.len()).map(|target| (target - 1, target, ShipStrategy::Hash)).collect();
    JobGraph::of_shape(parallelism, &edges)
}

fn grouped(parallelism: &[u32], groups: &[&str]) -> JobGraph {
    let mut graph = chain(parallelism);
    for (vertex, group) in graph.vertices.iter_mut().zip(groups) {
        vertex.slot_sharing_group = SlotSharingGroup((*group).to_owned());
    }
    graph
}

fn bounds(graph: &JobGraph, bounds: &[(u32, u32)]) -> Requirements {
    let of = |(vertex, (lower, upper)): (&JobVertex, &(u32, u32))| {
        (vertex.id, ParallelismBounds { lower: *lower, upper: *upper })
    };
    Requirements(graph.vertices.iter().zip(bounds).map(of).collect())
}

fn with(requirements: &Requirements, graph: &JobGraph, slots: u32) -> Option<Vec<u32>> {
    let parallelism = requirements.parallelism(graph, slots)?;
    Some(graph.vertices.iter().map(|vertex| parallelism[&vertex.id]).collect())
}

#[test]
fn a_job_of_parallelism_4_with_3_operators_needs_4_slots_and_8_in_two_slot_sharing_groups() {
    let one = chain(&[4, 4, 4]);
    let two = grouped(&[4, 4, 4], &["default", "default", "heavy"]);
    for (graph, wanted, needed) in [(one, 4, 1), (two, 8, 2)] {
        let requirements = Requirements::of(&graph, &Requirements::default());
        assert_eq!(requirements.slots_wanted(&graph), wanted);
        assert_eq!(requirements.slots_needed(&graph), needed);
        assert_eq!(graph.slots(), wanted);
        assert_eq!(with(&requirements, &graph, wanted), Some(vec![4, 4, 4]));
        assert_eq!(with(&requirements, &graph, wanted + 3), Some(vec![4, 4, 4]));
        assert_eq!(with(&requirements, &graph, needed), Some(vec![1, 1, 1]));
        assert_eq!(with(&requirements, &graph, needed - 1), None);
    }
}

#[test]
fn with_fewer_slots_each_vertex_gets_what_its_bounds_allow_and_below_the_lower_ones_none() {
    let graph = chain(&[4, 4, 1]);
    let requirements = bounds(&graph, &[(1, 4), (2, 3), (1, 1)]);
    let got: Vec<_> = (0..=5).map(|slots| with(&requirements, &graph, slots)).collect();
    let some = |parallelism: [u32; 3]| Some(parallelism.to_vec());
    assert_eq!(got, [None, None, some([2, 2, 1]), some([3, 3, 1]), some([4, 3, 1]), some([4, 3, 1])]);
    assert_eq!(with(&requirements.whole(), &graph, 3), None);
}

#[test]
fn slots_beyond_those_needed_are_shared_out_to_slot_sharing_groups_alike() {
    let graph = grouped(&[4, 4, 2], &["a", "b", "c"]);
    let requirements = bounds(&graph, &[(1, 4), (2, 4), (1, 2)]);
    let got: Vec<_> = (4..=10).filter_map(|slots| with(&requirements, &graph, slots)).collect();
    assert_eq!(got, [[1, 2, 1], [2, 2, 1], [2, 3, 1], [2, 3, 2], [3, 3, 2], [3, 4, 2], [4, 4, 2]]);
}

#[test]
fn the_job_at_another_parallelism_leaves_alone_what_the_program_sets_and_what_cannot_work_in_parallel() {
    let mut graph = chain(&[1, 4, 3]);
    graph.vertices[0].most_subtasks = 1;
    graph.vertices[2].sets_parallelism = true;
    let requirements = Requirements::of(&graph, &Requirements::default());
    let rescaled = requirements.rescaled(&graph, 6).expect("it can");
    assert_eq!(rescaled, bounds(&graph, &[(1, 1), (1, 6), (1, 3)]));
    assert_eq!(Requirements::limitless(&graph), bounds(&graph, &[(1, 1), (1, 128), (1, 3)]));
    for wrong in [0, 129] {
        assert!(requirements.rescaled(&graph, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_job_cannot_have_is_told_with_the_vertex() {
    let mut graph = chain(&[1, 4]);
    graph.vertices[0].most_subtasks = 1;
    let told = |requirements: Requirements| requirements.checked(&graph).expect_err("wrong").to_string();
    let (first, second) = (graph.vertices[0].id, graph.vertices[1].id);
    assert!(told(bounds(&graph, &[(1, 1)])).contains(&format!("vertex {second} (v1) are missing")));
    assert!(told(bounds(&graph, &[(1, 1), (3, 2)])).contains("3 to 2 subtasks"));
    assert!(told(bounds(&graph, &[(1, 1), (0, 2)])).contains("0 to 2 subtasks"));
    assert!(
        told(bounds(&graph, &[(1, 1), (1, 129)])).contains("maximum parallelism 128: that is the number of its key")
    );
    assert!(told(bounds(&graph, &[(1, 2), (1, 4)])).contains("maximum parallelism 1: it has an operator"));
    let mut unknown = bounds(&graph, &[(1, 1), (1, 4)]);
    unknown.0.insert(VertexId::from_name("other"), ParallelismBounds { lower: 1, upper: 1 });
    assert!(told(unknown).contains(&format!("its vertices are {first} (v0), {second} (v1)")));
    let right = bounds(&graph, &[(1, 1), (2, 128)]);
    assert_eq!(right.clone().checked(&graph), Ok(right));
}

#[test]
fn what_a_user_has_set_wins_over_the_program_for_vertices_that_there_are() {
    let graph = chain(&[2, 4]);
    let mut set = bounds(&graph, &[(2, 3)]);
    set.0.insert(VertexId::from_name("gone"), ParallelismBounds { lower: 9, upper: 9 });
    assert_eq!(Requirements::of(&graph, &set), bounds(&graph, &[(2, 3), (1, 4)]));
}
