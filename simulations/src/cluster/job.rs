//! The job of a simulated cluster: numbers that come into being while it runs, counted and summed by key, or written as they
//! are, or both. Every node makes it from its record, at the parallelism that stands there.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream::stream::{Environment, Parameters};
use millstream_actors::dispatcher::{Submission, Submissions};
use millstream_actors::launch::LaunchOptions;
use millstream_actors::protocol::deploy::Programs;
use millstream_runtime::graph::JobGraph;
use millstream_runtime::graph::chaining::{PlanOptions, plan};
use millstream_runtime::job::RestartOptions;
use millstream_runtime::ports::PortError;
use millstream_runtime::ports::source::{
    Polled, ReaderContext, Source, SourceReader, Split, SplitEnumerator, SplitIndex, SplitProgress,
};
use millstream_runtime::time::Timestamp;
use millstream_state::log::JobRecord;

use super::output::{Output, OutputSink, Row, SinkNumber};
use super::plan::{Input, Mutant, Plan, Shape};
use crate::world::EPOCH_MS;

const NAME: &str = "counting";
const PARALLELISM: &str = "parallelism";

/// The job, as every node has it in its executable.
#[derive(Clone)]
pub struct Counting {
    plan: Plan,
    output: Output,
}

impl Counting {
    /// The job of a plan.
    #[must_use]
    pub fn new(plan: Plan, output: Output) -> Self {
        Self { plan, output }
    }

    /// Where its output goes.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// What is recorded of it when it is submitted.
    #[must_use]
    pub fn record(&self) -> JobRecord {
        let configuration = BTreeMap::from([(PARALLELISM.to_owned(), self.plan.parallelism().to_string())]);
        JobRecord { name: NAME.to_owned(), configuration, ..JobRecord::default() }
    }

    fn numbers(&self, shape: Shape) -> Numbers {
        Numbers { input: self.plan.input, shape, mutant: self.plan.mutant }
    }

    fn sink(&self, number: u8) -> OutputSink {
        let (slow, mutant) = (self.plan.exchange.slow_sink, self.plan.mutant);
        OutputSink { output: self.output.clone(), sink: SinkNumber(number), slow, mutant }
    }

    fn by_key(&self, env: &Environment) {
        env.from_source("numbers", self.numbers(Shape::ByKey))
            .uid("numbers")
            .key_by(|(key, _, _): &Row| *key)
            .reduce(|so_far, (_, count, value)| {
                so_far.1 += count;
                so_far.2 += value;
            })
            .uid("counts")
            .sink_to("output", self.sink(0))
            .uid("output");
    }

    fn options(&self) -> LaunchOptions {
        // Where a cluster keeps its state, its nodes say; nothing is written there.
        let mut options = LaunchOptions::new("nowhere");
        options.checkpoints.interval_ms = Some(self.plan.checkpoint_interval_ms);
        options.checkpoints.timeout_ms = 5_000;
        options.checkpoints.aligned_timeout_ms = self.plan.aligned_timeout_ms;
        options.checkpoints.tolerable_failed = None;
        options.restart = RestartOptions::FixedDelay { attempts: 10_000, delay_ms: 20 };
        options.fold_lag = Some(2);
        options.batch_rows = self.plan.exchange.batch_rows;
        options.credit.batches = self.plan.exchange.credit_batches;
        options
    }
}

impl Programs for Counting {
    fn graph(&self, record: &JobRecord) -> Result<Arc<JobGraph>, PortError> {
        let parallelism = record.configuration.get(PARALLELISM).and_then(|text| text.parse().ok());
        let parallelism = parallelism.ok_or_else(|| PortError::fix_input("the record has no parallelism"))?;
        let env = Environment::new(NAME, parallelism, Parameters::default());
        match self.plan.shape {
            Shape::ByKey => self.by_key(&env),
            // The vertices stay two, so that there is a channel in each lane.
            Shape::Lanes => drop(
                env.from_source("numbers", self.numbers(Shape::Lanes))
                    .uid("numbers")
                    .disable_chaining()
                    .sink_to("output", self.sink(0))
                    .uid("output"),
            ),
            Shape::Beside => {
                self.by_key(&env);
                env.from_source("others", self.numbers(Shape::Beside))
                    .uid("others")
                    .set_parallelism(1)
                    .disable_chaining()
                    .sink_to("beside", self.sink(1))
                    .uid("beside")
                    .set_parallelism(1);
            }
        }
        let options = PlanOptions { name: NAME.to_owned(), parallelism, max_parallelism: 16, chaining: true };
        let graph = plan(env.take_graph(), &options).map_err(|error| PortError::fix_input(error.to_string()))?;
        let graph = graph.with_parallelism(&record.parallelism);
        graph.map(Arc::new).map_err(|error| PortError::fix_input(error.to_string()))
    }
}

impl Submissions for Counting {
    fn submission(&self, record: &JobRecord) -> Result<Submission, PortError> {
        Ok(Submission { record: record.clone(), graph: self.graph(record)?, options: self.options() })
    }
}

/// Keys of the rows beside those by key.
const BESIDE: u64 = 1_000_000_000;

/// What a record of a split counts as: of one of few keys, or each of its own.
fn record(input: &Input, shape: Shape, split: u64, n: u64) -> Row {
    let value = split * 1_000_000 + n;
    match shape {
        Shape::ByKey => ((split * 7 + n * 3) % input.keys, 1, value),
        Shape::Lanes => (value, 1, value),
        Shape::Beside => (BESIDE + value, 1, value),
    }
}

/// How often every key occurs, and the sum of its values: key, count, sum.
#[must_use]
pub fn expected(input: &Input, shape: Shape) -> Vec<Row> {
    let mut keys: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let records = (0..input.splits).flat_map(|split| (0..input.records).map(move |n| (split, n)));
    let beside = (shape == Shape::Beside).then_some(Shape::ByKey);
    for (shape, (split, n)) in
        beside.into_iter().chain([shape]).flat_map(|shape| records.clone().map(move |at| (shape, at)))
    {
        let (key, count, value) = record(input, shape, split, n);
        let sums = keys.entry(key).or_default();
        *sums = (sums.0 + count, sums.1 + value);
    }
    keys.into_iter().map(|(key, (count, sum))| (key, count, sum)).collect()
}

struct Numbers {
    input: Input,
    shape: Shape,
    mutant: Option<Mutant>,
}

impl Source for Numbers {
    type Record = Row;

    fn is_bounded(&self) -> bool {
        true
    }

    fn enumerator(&self, restored: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator>, PortError> {
        Ok(Box::new(Enumerator { splits: self.input.splits, given: restored == Some(&[1]) }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader<Row>>, PortError> {
        let repeats = u64::from(self.mutant == Some(Mutant::RepeatsOne));
        Ok(Box::new(Reader {
            input: self.input,
            shape: self.shape,
            context,
            splits: Vec::new(),
            turn: 0,
            last: false,
            repeats,
        }))
    }
}

struct Enumerator {
    splits: u64,
    given: bool,
}

impl SplitEnumerator for Enumerator {
    fn discover(&mut self) -> Result<Vec<Split>, PortError> {
        if std::mem::replace(&mut self.given, true) {
            return Ok(Vec::new());
        }
        let split = |id: u64| Split { id: id.to_string(), position: 0_u64.to_be_bytes().to_vec() };
        Ok((0..self.splits).map(split).collect())
    }

    fn discovery_interval_ms(&self) -> Option<u64> {
        None
    }

    fn snapshot(&self) -> Vec<u8> {
        vec![u8::from(self.given)]
    }
}

/// A split that is being read.
struct Reading {
    split: u64,
    next: u64,
    finished: bool,
}

struct Reader {
    input: Input,
    shape: Shape,
    context: ReaderContext,
    splits: Vec<Reading>,
    turn: usize,
    last: bool,
    /// A bug: records before the position that are read again after a restore.
    repeats: u64,
}

impl Reader {
    /// Records of each split that exist by now.
    fn existing(&self) -> u64 {
        let elapsed_ms = u64::try_from(self.context.clock.now_ms() - EPOCH_MS).unwrap_or(0);
        self.input.records.min(elapsed_ms / self.input.every_ms)
    }
}

impl SourceReader<Row> for Reader {
    fn add_splits(&mut self, splits: Vec<Split>, _floor: Timestamp) -> Result<(), PortError> {
        for split in splits {
            let position = split.position.try_into().map_err(|_| PortError::fix_input("not a position"))?;
            let id = split.id.parse().map_err(|_| PortError::fix_input("not a split"))?;
            self.splits.push(Reading { split: id, next: u64::from_be_bytes(position), finished: false });
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.last = true;
    }

    fn poll(
        &mut self,
        _progress: &dyn SplitProgress,
        max_rows: usize,
        rows: &mut Vec<Row>,
    ) -> Result<Polled, PortError> {
        let (existing, count) = (self.existing(), self.splits.len());
        for index in (0..count).map(|offset| (self.turn + offset) % count) {
            let Reading { split, next, finished } = &mut self.splits[index];
            if *next < existing {
                let upper = existing.min(*next + max_rows as u64);
                rows.extend((*next..upper).map(|n| record(&self.input, self.shape, *split, n)));
                *next = upper;
                self.turn = index + 1;
                return Ok(Polled::Rows(SplitIndex(index)));
            }
            if *next == self.input.records && !std::mem::replace(finished, true) {
                return Ok(Polled::Finished(SplitIndex(index)));
            }
        }
        if self.last && self.splits.iter().all(|reading| reading.finished) {
            return Ok(Polled::EndOfInput);
        }
        (self.context.wake_after)(self.input.every_ms);
        Ok(Polled::Waiting)
    }

    fn snapshot(&mut self) -> Result<Vec<(SplitIndex, Split)>, PortError> {
        let position = |next: u64| next.saturating_sub(self.repeats).to_be_bytes().to_vec();
        let unfinished = self.splits.iter().enumerate().filter(|(_, reading)| !reading.finished);
        Ok(unfinished
            .map(|(index, reading)| {
                (SplitIndex(index), Split { id: reading.split.to_string(), position: position(reading.next) })
            })
            .collect())
    }
}
