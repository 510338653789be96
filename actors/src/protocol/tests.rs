//! Every message comes back from its wire form as it was.

use std::collections::{BTreeMap, BTreeSet};

use millstream_runtime::batch::BatchLimit;
use millstream_runtime::checkpoint::manifest::{SegmentRef, SubtaskState};
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::element::{CheckpointingMode, Overtaking};
use millstream_runtime::ids::{
    AttemptNumber, CutNumber, Epoch, NodeId, NodeIncarnation, NodeProcess, OperatorUid, SubtaskIndex, VertexId,
};
use millstream_runtime::ports::state::StateNumber;
use millstream_runtime::state::cut::{OperatorState, Redistribution, StateDeclaration};
use millstream_state::log::{Digest, JobRecord};

use super::*;
use crate::in_flight::InFlightRef;
use crate::metrics::instrument::Measured;
use crate::metrics::{Now, SubtaskMetrics};
use crate::protocol::deploy::OperatorRestore;

fn round_trip<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(message: T) {
    let bytes = rmp_serde::to_vec(&message).expect("it is plain data");
    assert_eq!(rmp_serde::from_slice::<T>(&bytes).expect("just written"), message);
}

fn attempt() -> AttemptId {
    AttemptId { epoch: Epoch(3), attempt: AttemptNumber(7) }
}

fn id(index: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId::from_name("count"), index: SubtaskIndex(index) }
}

fn process(name: &str, incarnation: u64) -> NodeProcess {
    NodeProcess { node: NodeId(name.to_owned()), incarnation: NodeIncarnation(incarnation) }
}

fn segment() -> SegmentRef {
    SegmentRef {
        path: "job/segment".to_owned(),
        size_bytes: 1 << 40,
        digest: [255; 32],
        cuts: (CutNumber(1), CutNumber(u64::MAX)),
        attempt: attempt(),
        key_groups: 3..128,
    }
}

fn barrier() -> Barrier {
    Barrier {
        checkpoint: CheckpointId(9),
        attempt: attempt(),
        purpose: Purpose::StopWithSavepoint,
        mode: CheckpointingMode::ExactlyOnce,
        overtaking: Overtaking::After { timeout_ms: 1_000 },
        triggered_ms: 1_234,
    }
}

fn deploy() -> Deploy {
    let state = OperatorState {
        name: "splits".to_owned(),
        version: 1,
        redistribution: Redistribution::Union,
        items: vec![vec![], vec![0, 255]],
    };
    let restore = TaskRestore {
        operators: vec![
            OperatorRestore { uid: OperatorUid("source".to_owned()), states: vec![state], declared: vec![] },
            OperatorRestore {
                uid: OperatorUid("sums".to_owned()),
                states: vec![],
                declared: vec![StateDeclaration { number: StateNumber(1), name: "sum".to_owned(), version: 2 }],
            },
        ],
        watermark_floor: vec![i64::MIN, 0, i64::MAX],
        segments: vec![segment(), segment()],
        in_flight: vec![InFlightRef { segment: segment(), subtask: 3, parallelism: 4 }],
    };
    Deploy {
        attempt: attempt(),
        beside: BTreeSet::from([AttemptId::default()]),
        deployments_before: 2,
        record: JobRecord {
            artefact: Digest([5; 32]),
            name: "fraud-detection".to_owned(),
            parameters: vec![("input".to_owned(), Some("data".to_owned())), ("watch".to_owned(), None)],
            configuration: BTreeMap::from([("parallelism.default".to_owned(), "2".to_owned())]),
            submitted_ms: 1,
            requirements: Default::default(),
            parallelism: BTreeMap::from([(id(0).vertex, 3)]),
        },
        fingerprint: [9; 16],
        tasks: vec![
            TaskDeployment { id: id(0), restore },
            TaskDeployment { id: id(1), restore: TaskRestore::default() },
        ],
        places: BTreeMap::from([(id(0), process("a", 1)), (id(1), process("b", 7))]),
        restored: CheckpointId(8),
        channels: ChannelOptions { credit: CreditLimit::default(), batch: BatchLimit::default() },
        fold_lag: Some(4),
    }
}

#[test]
fn what_task_managers_are_told_round_trips() {
    let splits = SplitAssignment {
        splits: vec![Split { id: "file".to_owned(), position: vec![1, 2, 3] }],
        initial: true,
        last: false,
        floor: -5,
    };
    let position = Some(LogPosition { slot: 77, digest: Digest([4; 32]) });
    let complete = |position| Order::Complete { checkpoint: CheckpointId(1), purpose: Purpose::Checkpoint, position };
    let orders = [
        Order::Assign { subtask: id(1), splits },
        Order::Trigger { barrier: barrier(), drain: true },
        complete(position),
        complete(None),
        Order::Abort(CheckpointId(4)),
    ];
    round_trip(ToTaskManager::Deploy(Box::new(deploy())));
    orders.into_iter().for_each(|order| round_trip(ToTaskManager::Order(attempt(), order)));
    round_trip(ToTaskManager::Stop(attempt()));
    round_trip(ToTaskManager::StopAll(attempt()));
    round_trip(ToTaskManager::Release(attempt()));
}

#[test]
fn what_task_managers_tell_round_trips() {
    let SubtaskId { vertex, index } = id(1);
    let ack = Ack {
        checkpoint: CheckpointId(5),
        attempt: attempt(),
        vertex,
        subtask: index,
        state: SubtaskState { segments: vec![segment()], finished: true },
    };
    let metrics = AckMetrics { sync_duration_ms: 3, persisted_bytes: u64::MAX, ..AckMetrics::default() };
    let refusal = Refusal { kind: ErrorKind::FixInput, message: "no such file".to_owned() };
    let reports = [
        SubtaskReport::Running,
        SubtaskReport::Acked(Box::new(ack), metrics),
        SubtaskReport::Declined { checkpoint: CheckpointId(5), reason: "full".to_owned() },
        SubtaskReport::EndOfData,
        SubtaskReport::Finished,
        SubtaskReport::Failed(refusal.clone()),
    ];
    for report in reports {
        round_trip(FromTaskManager::Subtask { id: id(1), attempt: attempt(), report });
    }
    let reading = SubtaskMetrics::new(5).reading(Now { wall_ms: 1, monotonic_ns: 10 });
    round_trip(FromTaskManager::Gone { id: id(0), attempt: attempt() });
    round_trip(FromTaskManager::NotDeployed { attempt: attempt(), reason: refusal });
    round_trip(FromTaskManager::Stopped(attempt()));
    round_trip(FromTaskManager::Released(attempt()));
    round_trip(FromTaskManager::Readings { attempt: attempt(), readings: vec![(id(0), reading)] });
}
