//! What is deleted, when, and what a store that does not answer keeps.

use millstream_runtime::checkpoint::manifest::{SegmentRef, SubtaskState, VertexState};
use millstream_runtime::element::Purpose;
use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::key::KEY_FORMAT_VERSION;
use millstream_state::blob::{Fault, MemoryBlobs, Operation};
use millstream_state::failpoint::Failpoints;
use millstream_state::log::write_manifest;
use millstream_state::names;

use super::*;

fn job() -> JobId {
    JobId::from_name("job")
}

fn attempt(number: u32) -> AttemptId {
    AttemptId { epoch: Epoch(1), attempt: AttemptNumber(number) }
}

/// A checkpoint of the first attempt with a segment of its own, in the store.
fn stored(blobs: &MemoryBlobs, checkpoint: u64) -> (RetainedCheckpoint, Arc<Manifest>, String) {
    let vertex = VertexId::from_name("v");
    let cut = CutNumber(checkpoint);
    let path = names::segment(job(), vertex, attempt(0), SubtaskIndex(0), cut);
    blobs.put(&path, &[b"a segment"]).expect("stores");
    let segment = SegmentRef {
        path: path.clone(),
        size_bytes: 9,
        digest: [0; 32],
        cuts: (cut, cut),
        attempt: attempt(0),
        key_groups: 0..4,
    };
    let manifest = Manifest {
        job: job(),
        job_name: "job".to_owned(),
        checkpoint: CheckpointId(checkpoint),
        attempt: attempt(0),
        purpose: Purpose::Checkpoint,
        triggered_ms: 1,
        key_format: KEY_FORMAT_VERSION,
        graph_fingerprint: [0; 16],
        vertices: vec![VertexState {
            vertex,
            name: "v".to_owned(),
            operators: vec![OperatorUid("op".to_owned())],
            parallelism: 1,
            max_parallelism: 4,
            subtasks: vec![SubtaskState { segments: vec![segment], finished: false }],
            enumerator: None,
        }],
        properties: Vec::new(),
    };
    let reference = write_manifest(blobs, &manifest, &Failpoints::none()).expect("stores");
    (RetainedCheckpoint { checkpoint: CheckpointId(checkpoint), manifest: reference }, Arc::new(manifest), path)
}

fn cleaner(blobs: &MemoryBlobs) -> Cleaner {
    Cleaner::new(job(), Arc::new(blobs.clone()))
}

fn files(blobs: &MemoryBlobs) -> BTreeSet<String> {
    blobs.list(&names::job_folder(job())).expect("lists").into_iter().collect()
}

#[test]
fn checkpoints_completed_during_one_cleaning_are_cleaned_up_after_together() {
    let blobs = MemoryBlobs::new();
    let checkpoints: Vec<_> = (1..=4).map(|checkpoint| stored(&blobs, checkpoint)).collect();
    let after = |index: usize| {
        let (retained, manifest, _) = &checkpoints[index];
        let kept = checkpoints[index.saturating_sub(1)..=index].iter();
        let kept = kept.map(|(retained, _, _)| retained.clone()).collect();
        Cleaning::After { reference: retained.manifest.clone(), manifest: Arc::clone(manifest), retained: kept }
    };
    let mut cleaner = cleaner(&blobs);
    cleaner.clean(vec![after(0)]);
    assert_eq!(files(&blobs).len(), 8, "all is reachable, or not known yet");
    cleaner.clean(vec![after(1), after(2), after(3)]);
    let kept = checkpoints[2..].iter().flat_map(|(retained, _, segment)| [&retained.manifest.path, segment]);
    assert_eq!(files(&blobs), kept.cloned().collect());
}

#[test]
fn strays_stay_while_the_store_does_not_say_what_a_retained_checkpoint_needs() {
    let blobs = MemoryBlobs::new();
    let retained: Vec<_> = (1..=2).map(|checkpoint| stored(&blobs, checkpoint)).collect();
    let stray = names::segment(job(), VertexId::from_name("v"), attempt(0), SubtaskIndex(0), CutNumber(9));
    blobs.put(&stray, &[b"of an aborted checkpoint"]).expect("stores");
    let strays = || Cleaning::Strays {
        older: OlderAttempts::before(attempt(1)),
        retained: retained.iter().map(|(retained, _, _)| retained.clone()).collect(),
        restored: BTreeSet::from([retained[1].2.clone()]),
    };
    let all = files(&blobs);
    blobs.fail_after(Operation::Get, 1, Fault::Refused);
    cleaner(&blobs).clean(vec![strays()]);
    assert_eq!(files(&blobs), all, "the older checkpoint needs its segment");
    cleaner(&blobs).clean(vec![strays()]);
    assert_eq!(all.difference(&files(&blobs)).collect::<Vec<_>>(), [&stray]);
    // A damaged manifest names nothing that could be used.
    blobs.damage(&retained[0].0.manifest.path, |manifest| manifest.truncate(9));
    cleaner(&blobs).clean(vec![strays()]);
    assert!(!files(&blobs).contains(&retained[0].2));
    assert!(files(&blobs).contains(&retained[1].2));
}
