//! What is told of each checkpoint: counts, sizes, and how long every subtask took and waited.

use super::*;

#[test]
fn statistics_tell_counts_sizes_and_times_of_every_subtask() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::new(2), Target::new());
        counts(&env, &tap, &Trap::default(), &target);
        let mut options = options(dir.path());
        options.checkpoints.history_size = 5;
        let launched = start(&env, options).await;
        tap.release_all(1_000);
        until_completed(&launched.handle, 8).await;
        let report = report(&launched.handle).await;
        let statistics = &report.checkpoints;
        let counts = statistics.counts();
        assert_eq!(counts.total, counts.completed + counts.failed + counts.in_progress);
        assert!(statistics.history().count() <= 6, "the history is bounded");
        let last = statistics.latest_completed().expect("eight are");
        assert_eq!((last.num_subtasks, last.num_acknowledged_subtasks), (4, 4));
        let acked: Vec<_> = last.vertices.iter().flat_map(|vertex| &vertex.subtasks).flatten().collect();
        assert_eq!(acked.len(), 4);
        assert_eq!(acked.iter().map(|one| one.state_size_bytes).sum::<u64>(), last.state_size_bytes);
        assert_eq!(acked.iter().map(|one| one.checkpointed_size_bytes).sum::<u64>(), last.checkpointed_size_bytes);
        assert!(acked.iter().all(|one| one.end_to_end_duration_ms <= last.end_to_end_duration_ms), "{last:?}");
        let summary = statistics.summary();
        assert!(summary.end_to_end_duration_ms.max >= summary.end_to_end_duration_ms.p50);
        launched.handle.cancel().await.expect("the job answers");
    });
}

#[test]
fn statistics_tell_how_long_a_subtask_waited_for_the_slowest_barrier() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let env = environment(2);
        let (tap, target) = (Tap::new(2), Target::new());
        let slow = Target::new();
        let numbers = env.from_source("numbers", tapped(&tap, |split, n| (split * 10 + n % 10, n))).uid("numbers");
        // In the chain of the source: a source whose sink waits holds back its barrier.
        numbers.sink_to("slow", MemorySink(Arc::clone(&slow))).uid("slow");
        numbers
            .key_by(|(key, _)| *key)
            .process(Count { count: ValueState::new("count") })
            .uid("count")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        let launched = start(&env, options(dir.path())).await;
        until_completed(&launched.handle, 1).await;
        slow.stalled.store(true, Ordering::SeqCst);
        tap.release(1, 1);
        let in_progress = async || report(&launched.handle).await.checkpoints.counts().in_progress == 1;
        until(in_progress).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stuck = report(&launched.handle).await;
        let stuck = stuck.checkpoints.history().next().expect("one is under way").id;
        slow.stalled.store(false, Ordering::SeqCst);
        until(async || {
            let report = report(&launched.handle).await;
            let statistics = report.checkpoints.checkpoint(stuck);
            statistics.is_some_and(|checkpoint| checkpoint.num_acknowledged_subtasks == 4)
        })
        .await;
        let report = report(&launched.handle).await;
        let checkpoint = report.checkpoints.checkpoint(stuck).expect("just seen");
        let of = |keyed: bool| {
            let vertex = report.vertices.iter().find(|vertex| vertex.name.contains("Keyed") == keyed).expect("two").id;
            let found = checkpoint.vertices.iter().find(|statistics| statistics.vertex == vertex).expect("it acked");
            found.subtasks.iter().map(|told| told.as_ref().expect("all have").metrics).collect::<Vec<_>>()
        };
        let (sources, keyed) = (of(false), of(true));
        assert!(keyed.iter().all(|told| told.alignment_ms >= 50), "they waited for the second source: {keyed:?}");
        assert!(keyed.iter().all(|told| told.start_delay_ms < 50), "but not for the first: {keyed:?}");
        assert!(sources[1].start_delay_ms >= 50, "which was held up: {sources:?}");
        assert!(sources.iter().all(|told| told.alignment_ms == 0), "sources have no channels: {sources:?}");
        launched.handle.cancel().await.expect("the job answers");
    });
}
