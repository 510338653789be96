//! Slots are shared out as told, and whoever can stay stays.

use super::*;
use crate::graph::SlotSharingGroup;
use crate::graph::stream::ShipStrategy;

fn offers(slots: &[u32]) -> Vec<SlotOffer> {
    let offer = |(index, slots): (usize, &u32)| SlotOffer { node: NodeId(format!("n{index}")), slots: *slots };
    slots.iter().enumerate().map(offer).collect()
}

fn counts(slots: &[u32], needed: u32, balance: LoadBalance) -> Vec<usize> {
    let taken = take_slots(&offers(slots), needed, balance).expect("enough");
    assert_eq!(taken.len(), needed as usize);
    (0..slots.len()).map(|index| taken.iter().filter(|node| node.0 == format!("n{index}")).count()).collect()
}

#[test]
fn slots_are_taken_from_all_nodes_alike_or_node_by_node() {
    assert_eq!(counts(&[4, 4, 4], 6, LoadBalance::Slots), [2, 2, 2]);
    assert_eq!(counts(&[4, 4, 4], 6, LoadBalance::MinResources), [4, 2, 0]);
    assert_eq!(counts(&[1, 4], 4, LoadBalance::Slots), [1, 3]);
}

#[test]
fn nodes_of_one_size_never_differ_by_more_than_one() {
    for nodes in 1..5usize {
        for needed in 0..=(nodes as u32 * 3) {
            let counts = counts(&vec![3; nodes], needed, LoadBalance::Slots);
            let (most, least) = (counts.iter().max().expect("nodes"), counts.iter().min().expect("nodes"));
            assert!(most - least <= 1, "{counts:?}");
        }
    }
}

#[test]
fn too_few_slots_are_told_with_both_numbers() {
    let error = take_slots(&offers(&[1, 1]), 3, LoadBalance::Slots).expect_err("too few");
    assert_eq!(error, TooFewSlots { needed: 3, free: 2 });
}

fn places(graph: &JobGraph, slots: &[u32], before: &Places, balance: LoadBalance) -> Places {
    place(graph, &offers(slots), before, balance).expect("enough")
}

/// Nodes of the subtasks of a vertex, by their numbers.
fn nodes_of(places: &Places, vertex: &JobVertex) -> Vec<String> {
    subtasks(places, vertex.id).map(|(_, node)| node.0.trim_start_matches('n').to_owned()).collect()
}

fn keyed(source: u32, keyed: u32) -> JobGraph {
    JobGraph::of_shape(&[source, keyed], &[(0, 1, ShipStrategy::Hash)])
}

#[test]
fn neighbours_share_a_node_and_slots_hold_one_subtask_of_each_vertex() {
    let graph = JobGraph::of_shape(&[4, 4, 2], &[(0, 1, ShipStrategy::Forward), (1, 2, ShipStrategy::Hash)]);
    let places = places(&graph, &[2, 2], &Places::new(), LoadBalance::Slots);
    for vertex in &graph.vertices[..2] {
        assert_eq!(nodes_of(&places, vertex), ["0", "0", "1", "1"]);
    }
    assert_eq!(nodes_of(&places, &graph.vertices[2]), ["0", "0"]);
}

#[test]
fn of_a_lost_node_only_its_own_subtasks_move() {
    let graph = keyed(3, 3);
    let before = places(&graph, &[1, 1, 1, 0], &Places::new(), LoadBalance::Slots);
    let after = places(&graph, &[1, 0, 1, 1], &before, LoadBalance::Slots);
    for vertex in &graph.vertices {
        assert_eq!(nodes_of(&after, vertex), ["0", "3", "2"]);
    }
    // Without memory the third subtask would have moved as well.
    assert_eq!(
        nodes_of(&places(&graph, &[1, 0, 1, 1], &Places::new(), LoadBalance::Slots), &graph.vertices[1]),
        ["0", "2", "3"]
    );
}

#[test]
fn at_another_parallelism_a_subtask_goes_where_most_of_its_key_groups_were() {
    let before = places(&keyed(2, 2), &[1, 1], &Places::new(), LoadBalance::Slots);
    let wider = keyed(4, 4);
    let four = places(&wider, &[2, 2], &before, LoadBalance::Slots);
    assert_eq!(nodes_of(&four, &wider.vertices[1]), ["0", "0", "1", "1"]);
    // The first half was on the second node: it stays there.
    let swapped = before.iter().map(|(id, node)| (*id, if node.0 == "n0" { "n1" } else { "n0" }));
    let swapped: Places = swapped.map(|(id, node)| (id, NodeId(node.to_owned()))).collect();
    let four = places(&wider, &[2, 2], &swapped, LoadBalance::Slots);
    assert_eq!(nodes_of(&four, &wider.vertices[1]), ["1", "1", "0", "0"]);
    let three = places(&keyed(3, 3), &[1, 2], &four, LoadBalance::Slots);
    assert_eq!(nodes_of(&three, &keyed(3, 3).vertices[1]), ["1", "1", "0"]);
}

#[test]
fn narrow_vertices_even_out_the_subtasks_of_nodes_when_told() {
    let graph = JobGraph::of_shape(
        &[4, 1, 1, 2, 2],
        &[(1, 0, ShipStrategy::Rebalance), (0, 3, ShipStrategy::Hash), (3, 4, ShipStrategy::Forward)],
    );
    let tasks_of = |balance: LoadBalance| {
        let places = places(&graph, &[2, 2], &Places::new(), balance);
        assert_eq!(nodes_of(&places, &graph.vertices[3]), nodes_of(&places, &graph.vertices[4]), "they stay together");
        ["n0", "n1"].map(|name| places.values().filter(|node| node.0 == name).count())
    };
    assert_eq!(tasks_of(LoadBalance::Slots), [8, 2]);
    assert_eq!(tasks_of(LoadBalance::Tasks), [5, 5]);
}

#[test]
fn whatever_comes_and_goes_slots_hold_one_subtask_of_each_vertex_and_who_can_stay_stays() {
    let mut random = 11u64;
    let mut below = |n: u32| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as u32 % n
    };
    let mut before = Places::new();
    for _ in 0..2_000 {
        let (narrow, wide) = (1 + below(3), 3 + below(4));
        let graph =
            JobGraph::of_shape(&[narrow, wide, narrow], &[(0, 1, ShipStrategy::Hash), (0, 2, ShipStrategy::Forward)]);
        let balance = [LoadBalance::MinResources, LoadBalance::Slots, LoadBalance::Tasks][below(3) as usize];
        let slots: Vec<u32> = (0..4).map(|_| below(4)).collect();
        match place(&graph, &offers(&slots), &before, balance) {
            Err(error) => assert_eq!(error, TooFewSlots { needed: wide, free: slots.iter().sum() }),
            Ok(places) => {
                assert!(slots.iter().sum::<u32>() >= wide);
                assert_eq!(places.len() as u32, 2 * narrow + wide);
                for vertex in &graph.vertices {
                    let nodes = nodes_of(&places, vertex);
                    for (node, slots) in slots.iter().enumerate() {
                        let here = nodes.iter().filter(|name| **name == node.to_string()).count();
                        assert!(here <= *slots as usize, "{here} of {slots} slots");
                    }
                }
                assert_eq!(place(&graph, &offers(&slots), &places, balance).as_ref(), Ok(&places), "all stay");
                before = places;
            }
        }
    }
}

#[test]
fn who_can_stay_is_not_moved_for_the_state_of_others_that_have_to() {
    let before = places(&JobGraph::of_shape(&[2, 1], &[]), &[1, 1], &Places::new(), LoadBalance::Slots);
    let graph = JobGraph::of_shape(&[2, 2], &[]);
    let after = places(&graph, &[2, 2], &before, LoadBalance::Slots);
    let nodes = [&graph.vertices[0], &graph.vertices[1]].map(|vertex| nodes_of(&after, vertex));
    assert_eq!(nodes, [["0", "1"], ["0", "1"]], "all state of the second was on node 0");
}

#[test]
fn slot_sharing_groups_share_no_slot_and_each_takes_as_many_as_its_widest_vertex_has_subtasks() {
    let edges = [(0, 1, ShipStrategy::Forward), (1, 2, ShipStrategy::Hash), (2, 3, ShipStrategy::Forward)];
    let mut graph = JobGraph::of_shape(&[4, 4, 4, 4], &edges);
    assert_eq!(graph.slots(), 4);
    graph.vertices[1].slot_sharing_group = SlotSharingGroup("heavy".to_owned());
    graph.vertices[2].slot_sharing_group = SlotSharingGroup("heavy".to_owned());
    assert_eq!(graph.slots(), 8);
    let error = place(&graph, &offers(&[4, 3]), &Places::new(), LoadBalance::Slots).expect_err("too few");
    assert_eq!(error, TooFewSlots { needed: 8, free: 7 });
    // Of five nodes with one slot each and one with three, every slot has at most one subtask of each vertex of one group.
    let slots = [1, 1, 1, 1, 1, 3];
    let all = places(&graph, &slots, &Places::new(), LoadBalance::Slots);
    for (node, slots) in slots.iter().enumerate() {
        let here = |vertex: usize| {
            nodes_of(&all, &graph.vertices[vertex]).iter().filter(|name| **name == node.to_string()).count()
        };
        assert_eq!((here(0), here(1)), (here(3), here(2)), "one group");
        assert_eq!(here(0) + here(1), *slots as usize, "two groups");
    }
    // Of a lost node only its own subtasks move.
    let after = places(&graph, &[1, 1, 1, 1, 0, 3, 1], &all, LoadBalance::Slots);
    for (id, node) in &all {
        assert_eq!(after[id].0, if node.0 == "n4" { "n6" } else { &node.0 }, "{id}");
    }
}
