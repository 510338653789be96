//! A job at another parallelism in place: what a task manager has of the state stays with it.

use millstream_actors::protocol::deploy::Programs;

use super::*;

/// Makes the job as its record says.
struct ByRecord(BTreeMap<u32, Arc<JobGraph>>);

fn record(parallelism: u32) -> JobRecord {
    let configuration = BTreeMap::from([("parallelism.default".to_owned(), parallelism.to_string())]);
    JobRecord { configuration, ..JobRecord::default() }
}

impl Programs for ByRecord {
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        let parallelism: u32 = record.configuration["parallelism.default"].parse().expect("a number");
        Ok(Arc::clone(&self.0[&parallelism]))
    }
}

#[test]
fn a_task_manager_keeps_the_state_of_key_groups_that_stay_on_it_when_a_job_is_scaled_out() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let ground = Ground::new(dir.path());
        let (tap, target) = (Tap::new(SPLITS as usize), Target::new());
        let graph = |parallelism| Arc::new(graph_of(&sums(parallelism, &tap, &Trap::default(), &target)));
        let graphs = BTreeMap::from([(2, graph(2)), (4, graph(4))]);
        let sums = vertex_of(&graphs[&2], "sums");
        let programs = Arc::new(ByRecord(graphs.clone()));
        let (a, b) = (ground.node_with("a", 2, programs.clone()).await, ground.node_with("b", 2, programs).await);
        let mut options = options(dir.path());
        options.checkpoints.interval_ms = None;
        let offered = vec![a.offered(), b.offered()];
        let launched = launch_on(offered, record(2), Arc::clone(&graphs[&2]), options).await.expect("launched");
        until_status(&launched.handle, JobStatus::Running).await;
        let read = |name: &str| ground.segments_read(name, sums);
        let first = folded_once(&launched.handle, (&tap, &target), &["a", "b"], read).await;
        let read = || ["a", "b"].map(read);
        let before = read().map(|read| read.len());
        launched.handle.redeploy(Arc::clone(&graphs[&4]), record(4));
        until(async || report(&launched.handle).await.subtasks.iter().filter(|row| row.id.vertex == sums).count() == 4)
            .await;
        until_status(&launched.handle, JobStatus::Running).await;
        tap.release_all(300);
        tap.close_all();
        finish(&launched).await;
        for (read, before) in read().iter().zip(before) {
            let again: Vec<_> = read[before..].iter().filter(|path| first.contains(path)).collect();
            assert!(again.is_empty(), "its key groups have stayed, and it reads {again:?} of them");
        }
        assert_eq!(sorted(&target), expected(300));
    });
}
