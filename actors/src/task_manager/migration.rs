//! State that a subtask is restored from, rewritten when the program declares it otherwise than it is stored: the new segments
//! take the place of the old chain, and the first checkpoint names them. Until that is complete, whoever goes back goes
//! back to the old ones. Runs on the blocking executor.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_runtime::graph::JobVertex;
use millstream_runtime::ids::{AttemptId, JobId, OperatorUid, SubtaskId};
use millstream_runtime::key_group::key_group_range;
use millstream_runtime::ports::PortError;
use millstream_runtime::state::conversion::Conversion;
use millstream_runtime::state::cut::StateDeclaration;
use millstream_state::segment::{Chain, Migration, SegmentContext, SegmentReader, migrate};

use super::opening::StateAccess;
use crate::protocol::TaskRestore;

/// Segments are split above about this size.
const TARGET_BYTES: u64 = 32 << 20;

/// Rewrites what a subtask is restored from, if it has to be.
///
/// # Errors
/// When the program cannot read a state, an entry is not what its migration takes, or the store cannot be used.
pub fn migrate_state(
    vertex: &JobVertex,
    (job, attempt, id): (JobId, AttemptId, SubtaskId),
    restore: &mut TaskRestore,
    access: &StateAccess<'_>,
) -> Result<(), PortError> {
    let mut conversions: BTreeMap<OperatorUid, Vec<Conversion>> = BTreeMap::new();
    for operator in &restore.operators {
        let needed = vertex.conversions(&operator.uid, &operator.declared)?;
        if !needed.is_empty() {
            conversions.insert(operator.uid.clone(), needed);
        }
    }
    if conversions.is_empty() {
        return Ok(());
    }
    let StateAccess { blobs, failpoints, now_ms, .. } = access;
    let chain = restore.segments.iter().map(|segment| SegmentReader::open(blobs, segment).map(Arc::new));
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key_groups = key_group_range(vertex.max_parallelism, vertex.parallelism, id.index);
    let migration = Migration {
        context: SegmentContext { job, vertex: vertex.id, subtask: id.index, attempt, key_groups },
        conversions: &conversions,
        watermarks: &restore.watermark_floor,
        now_ms: *now_ms,
        target_bytes: TARGET_BYTES,
    };
    restore.segments = migrate(Chain(&chain), &migration, &mut |segment| segment.store(&***blobs, failpoints))?;
    for operator in &mut restore.operators {
        for conversion in conversions.get(&operator.uid).into_iter().flatten() {
            declare(&mut operator.declared, conversion);
            let (from, to) = (conversion.from(), conversion.to());
            tracing::info!(
                %job, subtask = %id, operator = %operator.uid,
                "state '{}' of version {} was rewritten as '{}' of version {}", from.name, from.version, to.name, to.version
            );
        }
    }
    Ok(())
}

/// The state is stored as it is declared now.
fn declare(declared: &mut [StateDeclaration], conversion: &Conversion) {
    for stored in declared.iter_mut().filter(|stored| stored.name == conversion.from().name) {
        *stored = StateDeclaration { number: stored.number, ..conversion.to().clone() };
    }
}
