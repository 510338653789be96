//! Names of part files: unique for ever, and telling to whom a hidden file belongs.

use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId};
use millstream_runtime::ports::sink::SinkContext;

/// What the names of committed files begin with.
pub const COMMITTED_PREFIX: &str = "part-";
/// What the names of files that are not committed begin with.
pub const UNCOMMITTED_PREFIX: &str = ".part-";
/// What the names of files that are not committed end with.
pub const IN_PROGRESS_SUFFIX: &str = ".inprogress";

/// The name of a hidden file: `.part-{job}-{epoch}-{attempt}-{subtask}-{sequence}.inprogress`, the job as its first 8
/// hex digits. The sequence counts the files of a writer: it opens them before the number of their cut is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    pub job: String,
    pub attempt: AttemptId,
    pub subtask: u32,
    pub sequence: u64,
}

/// What hidden names say of a job.
pub(super) fn job_digits(job: JobId) -> String {
    job.to_string()[..8].to_string()
}

impl Hidden {
    pub fn new(context: &SinkContext, sequence: u64) -> Self {
        Self { job: job_digits(context.job), attempt: context.attempt, subtask: context.subtask.0, sequence }
    }

    pub fn name(&self) -> String {
        let Self { job, attempt, subtask, sequence } = self;
        let AttemptId { epoch, attempt } = attempt;
        format!("{UNCOMMITTED_PREFIX}{job}-{epoch}-{attempt}-{subtask}-{sequence}{IN_PROGRESS_SUFFIX}")
    }

    pub fn parse(name: &str) -> Option<Self> {
        let inner = name.strip_prefix(UNCOMMITTED_PREFIX)?.strip_suffix(IN_PROGRESS_SUFFIX)?;
        let (job, numbers) = job_and_numbers(inner)?;
        let [epoch, attempt, subtask, sequence] = numbers[..] else { return None };
        Some(Self {
            job: job.to_string(),
            attempt: AttemptId { epoch: Epoch(epoch), attempt: AttemptNumber(u32::try_from(attempt).ok()?) },
            subtask: u32::try_from(subtask).ok()?,
            sequence,
        })
    }
}

/// The name of part `roll` of a cut once it is committed: `part-{job}-{epoch}-{attempt}-{subtask}-{cut}[-{roll}].ext`. A job that
/// goes on from a savepoint of another writes into the same folder, and its attempts have the same numbers.
pub(super) fn visible(context: &SinkContext, cut: CutNumber, roll: usize, extension: &str) -> String {
    let AttemptId { epoch, attempt } = context.attempt;
    let roll = if roll == 0 { String::new() } else { format!("-{roll}") };
    let job = job_digits(context.job);
    format!("{COMMITTED_PREFIX}{job}-{epoch}-{attempt}-{}-{cut}{roll}.{extension}", context.subtask)
}

/// Whether a name is one that [`visible`] makes, with any extension.
pub(super) fn is_visible(name: &str) -> bool {
    let inner = name.strip_prefix(COMMITTED_PREFIX).and_then(|rest| rest.split_once('.'));
    inner.and_then(|(inner, _)| job_and_numbers(inner)).is_some_and(|(_, numbers)| matches!(numbers.len(), 4 | 5))
}

/// The digits of a job, and the numbers behind them.
fn job_and_numbers(text: &str) -> Option<(&str, Vec<u64>)> {
    let (job, numbers) = text.split_once('-')?;
    let is_job = job.len() == 8 && job.bytes().all(|byte| byte.is_ascii_hexdigit());
    let numbers: Option<Vec<u64>> = numbers.split('-').map(|number| number.parse().ok()).collect();
    numbers.filter(|_| is_job).map(|numbers| (job, numbers))
}
