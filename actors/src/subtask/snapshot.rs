//! From a barrier to a durable segment: encode between batches, sort and write on the blocking executor, in order of
//! cuts. Cuts that could not be written are kept and written with the next one: their changes are in no other cut.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_runtime::chain::context::{CutBuilder, PrepareCut, Prepared};
use millstream_runtime::checkpoint::coordinator::AckMetrics;
use millstream_runtime::checkpoint::manifest::SegmentRef;
use millstream_runtime::element::Barrier;
use millstream_runtime::ids::CutNumber;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::BlobStore;
use millstream_runtime::state::cut::Cut;
use millstream_runtime::time::Timestamp;
use millstream_state::failpoint::Failpoints;
use millstream_state::segment::{SegmentContext, SegmentWriter};

/// Segments in a chain before its tail is merged.
const COMPACT_ABOVE: usize = 8;

/// A barrier whose state is being encoded.
pub struct Encoding {
    /// The barrier.
    pub barrier: Barrier,
    /// Its cut.
    pub cut: CutNumber,
    /// The watermark at the barrier.
    pub watermark: Timestamp,
    /// Times so far.
    pub metrics: AckMetrics,
    /// Stopwatch reading at the barrier, for the asynchronous part.
    pub started_ns: u64,
    /// Everything is encoded; perhaps rows are still recorded that the barrier overtook.
    pub encoded: bool,
}

/// A cut on its way to the store.
pub struct Unwritten {
    barrier: Barrier,
    metrics: AckMetrics,
    started_ns: u64,
    cut: Cut,
    prepare: Vec<PrepareCut>,
}

/// What became of a cut.
pub struct Written {
    /// The barrier it was for.
    pub barrier: Barrier,
    /// Times so far.
    pub metrics: AckMetrics,
    /// Stopwatch reading at the barrier.
    pub started_ns: u64,
    /// Segments that are durable now, oldest first.
    pub segments: Vec<SegmentRef>,
    /// Transactions that are durable now.
    pub prepared: Vec<Prepared>,
    /// Cuts that are not; kept for the next write.
    pub unwritten: Vec<Cut>,
    /// Why the checkpoint is declined.
    pub declined: Option<PortError>,
    /// Why the subtask must fail: a sink could not prepare.
    pub failed: Option<PortError>,
    /// Writes the next ones.
    pub writer: SegmentWriter,
}

/// The result of merging a part of the chain.
pub struct Compacted {
    /// The segments that were merged: a contiguous part of the chain.
    pub replaced: Vec<SegmentRef>,
    /// The segments that stand for them.
    pub merged: Result<Vec<SegmentRef>, PortError>,
}

/// The segment chain of one subtask and the cuts on their way into it.
pub struct Snapshots {
    context: SegmentContext,
    blobs: Arc<dyn BlobStore>,
    failpoints: Failpoints,
    chain: Vec<SegmentRef>,
    queue: VecDeque<Unwritten>,
    /// Cuts of failed writes, oldest first.
    unwritten: Vec<Cut>,
    writer: SegmentWriter,
    writing: bool,
    compacting: bool,
}

/// Work for the blocking executor.
pub type WriteWork = Box<dyn FnOnce() -> Written + Send>;

impl Snapshots {
    /// Goes on with a restored chain.
    #[must_use]
    pub fn new(
        context: SegmentContext,
        blobs: Arc<dyn BlobStore>,
        failpoints: Failpoints,
        chain: Vec<SegmentRef>,
    ) -> Self {
        Self {
            context,
            blobs,
            failpoints,
            chain,
            queue: VecDeque::new(),
            unwritten: Vec::new(),
            writer: SegmentWriter::default(),
            writing: false,
            compacting: false,
        }
    }

    /// The chain as far as it is durable.
    #[must_use]
    pub fn chain(&self) -> &[SegmentRef] {
        &self.chain
    }

    /// Takes an encoded cut; answers work when nothing else is being written.
    pub fn submit(&mut self, encoding: Encoding, builder: CutBuilder) -> Option<WriteWork> {
        let CutBuilder { operators, prepare, in_flight_bytes: _ } = builder;
        let cut = Cut { number: encoding.cut, watermark: encoding.watermark, operators };
        let Encoding { barrier, metrics, started_ns, .. } = encoding;
        self.queue.push_back(Unwritten { barrier, metrics, started_ns, cut, prepare });
        self.next_write()
    }

    /// The next write, if none is under way.
    pub fn next_write(&mut self) -> Option<WriteWork> {
        if self.writing {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.writing = true;
        let older = std::mem::take(&mut self.unwritten);
        let writer = std::mem::take(&mut self.writer);
        let (context, blobs, failpoints) = (self.context.clone(), Arc::clone(&self.blobs), self.failpoints.clone());
        Some(Box::new(move || write(next, older, writer, &context, &*blobs, &failpoints)))
    }

    /// Takes what became of a write.
    pub fn written(&mut self, written: &mut Written) {
        self.writing = false;
        self.chain.append(&mut written.segments);
        self.unwritten = std::mem::take(&mut written.unwritten);
        self.writer = std::mem::take(&mut written.writer);
    }

    /// A part of the chain worth merging: the tail while it is small beside the base, else everything. The newest
    /// segment is left alone, since the ack under way names it; so are those that the local store has not got yet
    /// (`folded` is the newest it has; `None` without a local store), because a merged file hides where it stands.
    pub fn to_compact(&mut self, folded: Option<Option<CutNumber>>) -> Option<Vec<SegmentRef>> {
        if self.compacting || runs(&self.chain).count() <= COMPACT_ABOVE {
            return None;
        }
        let mut end = self.chain.len() - 1;
        if let Some(folded) = folded {
            let own = |segment: &SegmentRef| segment.attempt == self.context.attempt && Some(segment.cuts.1) == folded;
            end = end.min(self.chain.iter().rposition(own)? + 1);
        }
        let merged = &self.chain[..end];
        if runs(merged).count() < COMPACT_ABOVE / 2 {
            return None;
        }
        let base = runs(merged).next().unwrap_or_default();
        let size = |segments: &[SegmentRef]| segments.iter().map(|segment| segment.size_bytes).sum::<u64>();
        let tail = &merged[base.len()..];
        self.compacting = true;
        Some(if size(tail) * 2 < size(base) { tail.to_vec() } else { merged.to_vec() })
    }

    /// Whether the part begins with the oldest segment, so that tombstones can go.
    #[must_use]
    pub fn is_base(&self, part: &[SegmentRef]) -> bool {
        part.first().map(|segment| &segment.path) == self.chain.first().map(|segment| &segment.path)
    }

    /// Puts merged segments in the place of the part they stand for.
    ///
    /// # Errors
    /// Why it was not merged; the chain stays as it is.
    pub fn compacted(&mut self, compacted: Compacted) -> Result<(), PortError> {
        self.compacting = false;
        let merged = compacted.merged?;
        let start = self
            .chain
            .iter()
            .position(|segment| *segment == compacted.replaced[0])
            .expect("a chain changes only at its end and by compaction, one at a time");
        self.chain.splice(start..start + compacted.replaced.len(), merged);
        Ok(())
    }

    /// Where compacted segments are written.
    #[must_use]
    pub fn context(&self) -> &SegmentContext {
        &self.context
    }
}

/// Segments side by side of the same cuts are one, which a compaction has split by key groups.
fn runs(chain: &[SegmentRef]) -> impl Iterator<Item = &[SegmentRef]> {
    chain.chunk_by(|one, other| (one.attempt, one.cuts) == (other.attempt, other.cuts))
}

fn write(
    next: Unwritten,
    older: Vec<Cut>,
    writer: SegmentWriter,
    context: &SegmentContext,
    blobs: &dyn BlobStore,
    failpoints: &Failpoints,
) -> Written {
    let Unwritten { barrier, metrics, started_ns, mut cut, prepare } = next;
    let mut written = Written {
        barrier,
        metrics,
        started_ns,
        segments: Vec::new(),
        prepared: Vec::new(),
        unwritten: Vec::new(),
        declined: None,
        failed: None,
        writer,
    };
    for PrepareCut { uid, run } in prepare {
        match run() {
            Ok(prepared) => {
                let operator = cut.operators.iter_mut().find(|operator| operator.uid == uid);
                operator.expect("the sink has added itself to the cut").operator_states.push(prepared.state.clone());
                written.prepared.push(prepared);
            }
            Err(error) => {
                written.failed = Some(error);
                return written;
            }
        }
    }
    for cut in older.into_iter().chain([cut]) {
        if written.declined.is_some() {
            written.unwritten.push(cut);
            continue;
        }
        let segment = written.writer.write(&cut, context);
        match segment.store(blobs, failpoints) {
            Ok(()) => {
                written.segments.push(segment.reference.clone());
                written.writer.reuse(segment);
            }
            Err(error) => {
                written.declined = Some(error);
                written.unwritten.push(cut);
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use millstream_runtime::ids::{AttemptId, JobId, SubtaskIndex, VertexId};
    use millstream_state::blob::MemoryBlobs;

    use super::*;

    fn segment(cuts: (u64, u64), size_bytes: u64, key_groups: std::ops::Range<u16>) -> SegmentRef {
        let cuts = (CutNumber(cuts.0), CutNumber(cuts.1));
        let path = format!("{cuts:?} {key_groups:?}");
        SegmentRef { path, size_bytes, digest: [0; 32], cuts, attempt: AttemptId::default(), key_groups }
    }

    #[test]
    fn a_base_that_was_split_counts_as_one() {
        let context = SegmentContext {
            job: JobId::from_name("job"),
            vertex: VertexId([0; 16]),
            subtask: SubtaskIndex(0),
            attempt: AttemptId::default(),
            key_groups: 0..100,
        };
        let mut chain: Vec<_> = (0..20).map(|piece| segment((1, 9), 32, piece * 5..piece * 5 + 5)).collect();
        chain.extend((10..16).map(|cut| segment((cut, cut), 30, 0..100)));
        let snapshots =
            |chain| Snapshots::new(context.clone(), Arc::new(MemoryBlobs::default()), Failpoints::none(), chain);
        assert_eq!(snapshots(chain.clone()).to_compact(None), None, "seven, not twenty-six");
        chain.extend((16..20).map(|cut| segment((cut, cut), 30, 0..100)));
        let tail = &chain[20..chain.len() - 1];
        assert_eq!(
            snapshots(chain.clone()).to_compact(None).as_deref(),
            Some(tail),
            "small beside all pieces of the base"
        );
        chain.extend((20..23).map(|cut| segment((cut, cut), 300, 0..100)));
        let all = &chain[..chain.len() - 1];
        assert_eq!(snapshots(chain.clone()).to_compact(None).as_deref(), Some(all));
        let folded = Some(Some(CutNumber(9)));
        assert_eq!(snapshots(chain.clone()).to_compact(folded), None, "the local store has the base only");
    }
}
