//! Where a job's blobs lie in the checkpoint store, and what their names say. Used by everything that writes or cleans.
//!
//! ```text
//! cluster/log/{slot:020}
//! cluster/log-hint
//! cluster/beacon
//! jobs/{job}/log/{slot:020}
//! jobs/{job}/log-hint
//! jobs/{job}/manifests/{epoch}-{attempt}-{checkpoint}.manifest
//! jobs/{job}/segments/{vertex}/{epoch}-{attempt}-{subtask}-{cut}.seg
//! jobs/{job}/segments/{vertex}/{epoch}-{attempt}-{subtask}-{first}_{last}-{content}.seg     after a compaction
//! ```

use millstream_runtime::ids::{
    AttemptId, AttemptNumber, CheckpointId, CutNumber, Epoch, JobId, SubtaskIndex, VertexId,
};

/// Everything of one job.
#[must_use]
pub fn job_folder(job: JobId) -> String {
    format!("jobs/{job}")
}

/// All segments of one job.
#[must_use]
pub fn segment_folder(job: JobId) -> String {
    format!("jobs/{job}/segments")
}

/// All manifests of one job.
#[must_use]
pub fn manifest_folder(job: JobId) -> String {
    format!("jobs/{job}/manifests")
}

/// A segment made from one cut.
#[must_use]
pub fn segment(job: JobId, vertex: VertexId, attempt: AttemptId, subtask: SubtaskIndex, cut: CutNumber) -> String {
    let AttemptId { epoch, attempt } = attempt;
    format!("jobs/{job}/segments/{vertex}/{epoch}-{attempt}-{subtask}-{cut}.seg")
}

/// A segment made from a chain of segments: named by its content as well, since the same cuts may be compacted twice.
#[must_use]
pub fn compacted_segment(
    job: JobId,
    vertex: VertexId,
    attempt: AttemptId,
    subtask: SubtaskIndex,
    (first, last): (CutNumber, CutNumber),
    content: u32,
) -> String {
    let AttemptId { epoch, attempt } = attempt;
    format!("jobs/{job}/segments/{vertex}/{epoch}-{attempt}-{subtask}-{first}_{last}-{content:08x}.seg")
}

/// A manifest.
#[must_use]
pub fn manifest(job: JobId, attempt: AttemptId, checkpoint: CheckpointId) -> String {
    let AttemptId { epoch, attempt } = attempt;
    format!("jobs/{job}/manifests/{epoch}-{attempt}-{checkpoint}.manifest")
}

/// The log of the cluster.
pub const CLUSTER_LOG: &str = "cluster/log";

/// What the leader of a cluster rewrites to show that it is alive.
pub const BEACON: &str = "cluster/beacon";

/// The log of a job.
#[must_use]
pub fn job_log(job: JobId) -> String {
    format!("jobs/{job}/log")
}

/// A slot of a log.
#[must_use]
pub fn slot(log: &str, slot: u64) -> String {
    format!("{log}/{slot:020}")
}

/// The hint at the newest slot of a log.
#[must_use]
pub fn hint(log: &str) -> String {
    format!("{log}-hint")
}

/// A slot of a job's log.
#[must_use]
pub fn log_slot(job: JobId, number: u64) -> String {
    slot(&job_log(job), number)
}

/// Who wrote a segment or manifest, by its name; `None` for a name this program does not give.
#[must_use]
pub fn attempt_of(path: &str) -> Option<AttemptId> {
    let file = path.rsplit('/').next()?;
    let stem = file.strip_suffix(".seg").or_else(|| file.strip_suffix(".manifest"))?;
    let mut fields = stem.split('-');
    let epoch = Epoch(fields.next()?.parse().ok()?);
    let attempt = AttemptNumber(fields.next()?.parse().ok()?);
    fields.next().map(|_| AttemptId { epoch, attempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_attempt_wrote_them() {
        let job = JobId::from_name("job");
        let attempt = AttemptId { epoch: Epoch(3), attempt: AttemptNumber(4) };
        let path = segment(job, VertexId::from_name("v"), attempt, SubtaskIndex(1), CutNumber(9));
        assert_eq!(attempt_of(&path), Some(attempt));
        assert_eq!(attempt_of(&manifest(job, attempt, CheckpointId(7))), Some(attempt));
        assert_eq!(attempt_of("jobs/x/segments/v/notes.txt"), None);
        assert_eq!(attempt_of("jobs/x/segments/v/a-b-c.seg"), None);
    }
}
