//! Links: made once however they are dialled, lost, made again, and told in order.

use super::*;
use crate::Error;

#[tokio::test]
async fn control_messages_go_both_ways_in_order_and_heartbeats_are_told() {
    let (mut a, mut b) = pair(&Cluster::new()).await;
    for number in 0..100u8 {
        a.links.send(&b.process.node, vec![number; 1_000]).unwrap();
    }
    b.links.send(&a.process.node, "hello").unwrap();
    for number in 0..100u8 {
        assert_eq!(b.message().await, vec![number; 1_000]);
    }
    assert_eq!(a.message().await, b"hello");
    let heartbeat = LinkEvent::Heartbeat { peer: b.process.clone() };
    let beat = async { while a.events.recv().await.unwrap() != heartbeat {} };
    tokio::time::timeout(PATIENCE, beat).await.expect("a heartbeat");
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_the_same_time_have_one_link() {
    for _ in 0..10 {
        let cluster = Cluster::new();
        let (mut a, mut b) = (cluster.node("a", 1), cluster.node("b", 1));
        a.links.connect(b.address);
        b.links.connect(a.address);
        a.until_up(&b.process).await;
        b.until_up(&a.process).await;
        a.links.send(&b.process.node, "from a").unwrap();
        b.links.send(&a.process.node, "from b").unwrap();
        // `message` fails if anything else, like a second link, were told before: it skips, so count here.
        assert_eq!(b.next().await, LinkEvent::Control { peer: a.process.clone(), message: "from a".into() });
        assert_eq!(a.next().await, LinkEvent::Control { peer: b.process.clone(), message: "from b".into() });
    }
}

#[tokio::test]
async fn three_nodes_are_all_linked_with_each_other() {
    let cluster = Cluster::new();
    let mut nodes = [cluster.node("a", 1), cluster.node("b", 1), cluster.node("c", 1)];
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address).collect();
    for (index, node) in nodes.iter().enumerate() {
        addresses[..index].iter().for_each(|address| node.links.connect(*address));
    }
    eventually("all linked", || nodes.iter().all(|node| node.links.linked().len() == 2)).await;
    let (last, others) = nodes.split_last_mut().unwrap();
    for node in others {
        last.links.send(&node.process.node, "all").unwrap();
        assert_eq!(node.message().await, b"all");
    }
}

#[tokio::test]
async fn a_cut_link_is_told_at_both_ends_and_made_again() {
    let (mut a, mut b) = pair(&Cluster::new()).await;
    b.links.cut(&a.process.node, "for a test");
    assert_eq!(b.until_down(&a.process).await, "for a test");
    assert_eq!(a.until_down(&b.process).await, "the peer closed it: for a test");
    a.until_up(&b.process).await;
    b.until_up(&a.process).await;
    a.links.send(&b.process.node, "again").unwrap();
    assert_eq!(b.message().await, b"again");
}

#[tokio::test]
async fn a_silent_peer_is_noticed_within_the_time_out_and_linked_again_when_it_is_back() {
    let mut cluster = Cluster::new();
    cluster.options.heartbeat_interval_ms = 20;
    cluster.options.timeout_ms = 200;
    let (mut a, mut b) = pair(&cluster).await;
    let before = tokio::time::Instant::now();
    b.pulled.store(true, Ordering::SeqCst);
    assert_eq!(a.until_down(&b.process).await, "the peer is silent");
    assert!(before.elapsed() >= Duration::from_millis(100), "at least nearly the time-out");
    assert_eq!(b.until_down(&a.process).await, "the peer is silent");
    assert!(matches!(a.links.send(&b.process.node, "lost"), Err(Error::NotLinked(_))));
    b.pulled.store(false, Ordering::SeqCst);
    a.until_up(&b.process).await;
    b.until_up(&a.process).await;
}

#[tokio::test]
async fn a_restarted_peer_comes_with_a_new_incarnation_and_the_old_one_is_refused() {
    let (log, _capturing) = Log::capture();
    let cluster = Cluster::new();
    let (mut a, b) = pair(&cluster).await;
    // The old process still runs when the new one comes: as if it had been paused.
    let mut restarted = cluster.node("b", 2);
    restarted.links.connect(a.address);
    assert_eq!(a.until_down(&b.process).await, "a newer link has taken its place");
    a.until_up(&restarted.process).await;
    restarted.until_up(&a.process).await;
    b.links.connect(a.address);
    eventually("the old process is refused", || log.count("an old process of its node") > 0).await;
    assert_eq!(a.links.linked(), [restarted.process.clone()]);
    a.links.send(&restarted.process.node, "to the new one").unwrap();
    assert_eq!(restarted.message().await, b"to the new one");
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let (mut a, b) = pair(&Cluster::new()).await;
    b.links.stop("shutting down").await;
    assert_eq!(a.until_down(&b.process).await, "the peer closed it: shutting down");
}

#[tokio::test]
async fn messages_over_the_limit_and_more_than_a_peer_takes_are_errors() {
    let mut cluster = Cluster::new();
    cluster.options.max_control_bytes = 100;
    cluster.options.max_control_backlog_bytes = 150;
    let (mut a, mut b) = pair(&cluster).await;
    assert!(matches!(a.links.send(&b.process.node, vec![0; 101]), Err(Error::TooLong { bytes: 101, limit: 100 })));
    assert!(matches!(a.links.send(&NodeId("z".to_owned()), "x"), Err(Error::NotLinked(_))));
    a.links.send(&b.process.node, vec![0; 100]).unwrap();
    // No task has run since: the first message still waits.
    assert!(matches!(a.links.send(&b.process.node, vec![0; 100]), Err(Error::Backlog(_))));
    assert_eq!(b.until_down(&a.process).await, "the peer closed it: control messages are not read");
    assert_eq!(a.until_down(&b.process).await, "control messages are not read");
}
