//! Tests of the API and the operators behind it, run in the harness.

#![allow(clippy::unwrap_used)]

mod aggregates;
mod backpressure;
mod broadcast;
mod declarations;
mod evicted;
mod evolution;
mod half_fired;
mod lifecycle;
mod partitioning;
mod rescale;
mod stateless;
mod timers;
mod ttl;
mod ttl_change;
mod windows;

use proptest::prelude::*;

use super::HarnessOptions;
use crate::prelude::*;
use crate::stream::Parameters;
use millstream_runtime::credit::CreditLimit;
use millstream_runtime::time::Timestamp;

fn environment(parallelism: u32) -> Environment {
    Environment::new("test", parallelism, Parameters::default())
}

/// Small batches, one credit: everything that can wait does. With every other seed nothing is to stay in memory either.
fn tight(seed: u64) -> HarnessOptions {
    HarnessOptions {
        batch_rows: 2,
        credit: CreditLimit { batches: 1, bytes: 1 << 20 },
        state_memory: (seed % 2 == 1).then_some(0),
        seed,
        ..HarnessOptions::default()
    }
}

/// The mean of whole numbers, rounded down.
#[derive(Clone)]
struct Mean;

impl AggregateFunction for Mean {
    type In = u32;
    type Accumulator = (u32, u32);
    type Out = u32;

    fn create(&self) -> (u32, u32) {
        (0, 0)
    }

    fn add(&self, (count, sum): &mut (u32, u32), value: u32) {
        (*count, *sum) = (*count + 1, *sum + value);
    }

    fn result(&self, (count, sum): &(u32, u32)) -> u32 {
        sum / count
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

/// What happens to an input.
#[derive(Clone, Copy, Debug)]
enum Event {
    Record { key: u8, time: Timestamp, value: u64 },
    Watermark(Timestamp),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let record = (0u8..6, 0i64..60, 0u64..100).prop_map(|(key, time, value)| Event::Record { key, time, value });
    prop::collection::vec(prop_oneof![5 => record, 1 => (0i64..60).prop_map(Event::Watermark)], 0..60)
}

/// The watermark at each event, as an input has it: it never goes back.
fn with_watermarks(events: &[Event]) -> Vec<(Event, Timestamp)> {
    let mut watermark = Timestamp::MIN;
    let mut step = |event: &Event| {
        if let Event::Watermark(time) = *event {
            watermark = watermark.max(time);
        }
        (*event, watermark)
    };
    events.iter().map(&mut step).collect()
}
