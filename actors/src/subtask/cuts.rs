//! The way of a cut through the subtask actor: barrier, encoding between batches, writing, acknowledgement, and in the
//! background the merging of segments and the fold into the local store.

use std::sync::Arc;

use millstream_runtime::chain::sink::PreparedTransactions;
use millstream_runtime::chain::{self, Completion};
use millstream_runtime::checkpoint::coordinator::AckMetrics;
use millstream_runtime::checkpoint::manifest::{Ack, SubtaskState};
use millstream_runtime::element::{Barrier, Overtaking, Purpose};
use millstream_runtime::ids::CheckpointId;
use millstream_runtime::ports::PortError;
use millstream_state::log::LogPosition;
use millstream_state::segment::{Chain, Compaction, SegmentReader, compact};
use ractor::ActorRef;

use super::actor::SubtaskStateful;
use super::alignment::Aligned;
use super::message::SubtaskMessage;
use super::snapshot::{Compacted, Encoding, Written};
use crate::local::{Folded, Folder};
use crate::protocol::SubtaskReport;
use crate::world::caught;

/// Merged segments are split by key groups above about this size: each is put together in memory.
const COMPACTED_BYTES: u64 = 32 << 20;

fn milliseconds(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX)
}

impl SubtaskStateful {
    pub(super) fn snapshot(&mut self, myself: &ActorRef<SubtaskMessage>, barrier: Barrier) -> Result<(), PortError> {
        // A cut still being encoded comes first; it ends soon, since nothing is added to it. Its rows in flight are all
        // here: barriers of a later checkpoint come behind them.
        while let Some(encoding) = &self.encoding {
            let recording = self.driver.as_mut().and_then(|driver| driver.machine().recording());
            assert_ne!(recording, Some(encoding.barrier.checkpoint), "a cut is to follow one whose rows still come");
            self.encode_some(myself)?;
        }
        let Some(driver) = &mut self.driver else { return Ok(()) };
        let started_ns = self.arguments.stopwatch.elapsed_ns();
        self.closing = matches!(barrier.purpose, Purpose::Final | Purpose::StopWithSavepoint);
        if barrier.purpose == Purpose::Checkpoint && self.folder.is_some() {
            self.pressure.cut(barrier.checkpoint);
        }
        self.cuts.0 += 1;
        self.context.cut = Default::default();
        self.context.cut_number = self.cuts;
        let Aligned { duration_ns, processed_bytes } = self.alignment.completed(barrier.checkpoint, started_ns);
        let alignment_ms = milliseconds(duration_ns);
        let on_the_way_ms = self.context.task.clock.now_ms() - barrier.triggered_ms;
        // The clocks of two nodes need not agree.
        let start_delay_ms = (on_the_way_ms - alignment_ms).max(0);
        let nanoseconds = |ms: i64| ms.saturating_mul(1_000_000);
        self.arguments.metrics.checkpoint_aligned(nanoseconds(start_delay_ms), nanoseconds(alignment_ms));
        driver.barrier(&barrier, &mut self.context)?;
        let sync_ns = self.arguments.stopwatch.elapsed_ns() - started_ns;
        self.longest_step_ns = sync_ns;
        let metrics = AckMetrics {
            start_delay_ms,
            alignment_ms,
            processed_bytes,
            sync_duration_ms: milliseconds(sync_ns),
            unaligned: barrier.overtaking == Overtaking::Now,
            ..AckMetrics::default()
        };
        let watermark = driver.cut_watermark(&self.context.task.watermark_floor);
        self.encoding = Some(Encoding { barrier, cut: self.cuts, watermark, metrics, started_ns, encoded: false });
        Ok(())
    }

    /// Encodes one key group of the cut under way; with the last one it goes to the store.
    pub(super) fn encode_some(&mut self, myself: &ActorRef<SubtaskMessage>) -> Result<(), PortError> {
        let Some(encoding) = &mut self.encoding else { return Ok(()) };
        let (Some(driver), Some(snapshots)) = (&mut self.driver, &mut self.snapshots) else { return Ok(()) };
        if !encoding.encoded && !driver.chain().stage().encode_frozen(&mut self.context)?.is_ready() {
            return Ok(());
        }
        encoding.encoded = true;
        let Some(in_flight) = driver.take_in_flight(encoding.barrier.checkpoint) else { return Ok(()) };
        if let Some(mut encoding) = self.encoding.take() {
            let mut cut = std::mem::take(&mut self.context.cut);
            encoding.metrics.persisted_bytes = cut.in_flight_bytes + in_flight.size_bytes();
            cut.operators.extend(in_flight.into_cut(&self.arguments.channels));
            let work = snapshots.submit(encoding, cut);
            self.start_write(myself, work);
        }
        Ok(())
    }

    fn start_write(&self, myself: &ActorRef<SubtaskMessage>, work: Option<super::snapshot::WriteWork>) {
        let Some(work) = work else { return };
        let myself = myself.clone();
        self.arguments.world.blocking.run(Box::new(move || {
            drop(myself.cast(match caught(work) {
                Ok(written) => SubtaskMessage::Written(Box::new(written)),
                Err(error) => SubtaskMessage::WorkFailed(error),
            }));
        }));
    }

    pub(super) fn written(&mut self, myself: &ActorRef<SubtaskMessage>, mut written: Written) -> Result<(), PortError> {
        let (Some(driver), Some(snapshots)) = (&mut self.driver, &mut self.snapshots) else { return Ok(()) };
        if let Some(error) = written.failed {
            return Err(error);
        }
        snapshots.written(&mut written);
        let checkpoint = written.barrier.checkpoint;
        for prepared in written.prepared {
            let transactions = PreparedTransactions { checkpoint, committables: prepared.committables };
            let mut completion = Some(Completion { slot: prepared.slot, result: Box::new(transactions) });
            let _flow = driver.chain().stage().completed(&mut completion, &mut self.context)?;
        }
        let report = match written.declined {
            Some(error) => {
                self.pressure.ended(checkpoint);
                SubtaskReport::Declined { checkpoint, reason: error.message }
            }
            None => {
                let asynchronous = self.arguments.stopwatch.elapsed_ns() - written.started_ns;
                let mut metrics = written.metrics;
                metrics.async_duration_ms = milliseconds(asynchronous);
                metrics.longest_step_us = i64::try_from(self.longest_step_ns / 1_000).unwrap_or(i64::MAX);
                let ack = Ack {
                    checkpoint,
                    attempt: written.barrier.attempt,
                    vertex: self.arguments.id.vertex,
                    subtask: self.arguments.id.index,
                    state: SubtaskState { segments: snapshots.chain().to_vec(), finished: driver.has_ended() },
                };
                SubtaskReport::Acked(Box::new(ack), metrics)
            }
        };
        if let (Some(folder), SubtaskReport::Acked(ack, _)) = (&mut self.folder, &report) {
            folder.acked(checkpoint, ack.state.segments.clone());
        }
        let next = snapshots.next_write();
        self.report(report);
        self.start_write(myself, next);
        self.start_compaction(myself);
        Ok(())
    }

    /// Folds a completed checkpoint into the local store, when it is time.
    pub(super) fn fold(
        &mut self,
        myself: &ActorRef<SubtaskMessage>,
        checkpoint: CheckpointId,
        purpose: Purpose,
        position: Option<LogPosition>,
    ) {
        let Some(folder) = self.folder.as_mut().filter(|_| purpose != Purpose::Savepoint) else { return };
        let urgent = self.context.counters.memory_short;
        let Some(work) = position.and_then(|position| folder.complete(checkpoint, position, urgent)) else {
            self.pressure.ended(checkpoint);
            return;
        };
        let myself = myself.clone();
        self.arguments.world.blocking.run(Box::new(move || {
            drop(myself.cast(SubtaskMessage::Folded(Box::new(work()))));
        }));
    }

    /// What the local store has now need not be in memory.
    pub(super) fn folded(&mut self, folded: &Folded) -> Result<(), PortError> {
        let (Some(folder), Some(driver)) = (&mut self.folder, &mut self.driver) else { return Ok(()) };
        let cut = folder.folded(folded);
        self.pressure.ended(folded.checkpoint);
        let Some(cut) = cut else { return Ok(()) };
        let local = folder.local();
        let stored = chain::Folded { cut, reader: &|uid| local.reader(uid) };
        let _flow = driver.chain().stage().folded(&stored, &mut self.context)?;
        Ok(())
    }

    pub(super) fn start_compaction(&mut self, myself: &ActorRef<SubtaskMessage>) {
        let (Some(driver), Some(snapshots)) = (&mut self.driver, &mut self.snapshots) else { return };
        let mut restoring = false;
        driver.chain().stage().restoring(&mut restoring);
        if restoring || self.closing {
            return;
        }
        let folded = self.folder.as_ref().map(Folder::folded_cut);
        let Some(part) = snapshots.to_compact(folded) else { return };
        let is_base = snapshots.is_base(&part);
        let (context, world, myself) = (snapshots.context().clone(), self.arguments.world.clone(), myself.clone());
        world.blocking.clone().run(Box::new(move || {
            let compaction = Compaction { context, base_included: is_base, target_bytes: COMPACTED_BYTES };
            let readers: Result<Vec<_>, PortError> =
                part.iter().map(|segment| SegmentReader::open(&world.blobs, segment).map(Arc::new)).collect();
            let merged = readers.and_then(|readers| {
                compact(Chain(&readers), &compaction, &mut |segment| segment.store(&*world.blobs, &world.failpoints))
            });
            drop(myself.cast(SubtaskMessage::Compacted(Box::new(Compacted { replaced: part, merged }))));
        }));
    }

    pub(super) fn compacted(&mut self, compacted: Compacted) {
        let Some(snapshots) = &mut self.snapshots else { return };
        if let Err(error) = snapshots.compacted(compacted) {
            tracing::warn!(subtask = %self.arguments.id, "segments could not be merged, the chain grows: {error}");
        }
    }
}
