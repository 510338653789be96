//! A keyed stream with a broadcast input.

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

/// Emits values above a limit that a broadcast record sets, when event time passes them.
#[derive(Clone)]
struct Above {
    limit: BroadcastState<u64>,
    held: ListState<u8, u64>,
}

impl KeyedBroadcastFunction for Above {
    type Key = u8;
    type In = (u8, u64);
    type Broadcast = u64;
    type Out = (u8, u64);

    fn states(&mut self, visit: StateVisitor<'_, u8>) {
        visit(&mut self.held);
    }

    fn broadcast_states(&mut self, visit: &mut dyn FnMut(&mut dyn OperatorStateSlot)) {
        visit(&mut self.limit);
    }

    fn process(&mut self, value: (u8, u64), cx: &mut KeyedContext<'_, u8, (u8, u64)>) -> Result<(), PortError> {
        self.held.add(cx, value.1);
        cx.register_event_time_timer(cx.timestamp().unwrap_or(0));
        Ok(())
    }

    fn process_broadcast(&mut self, limit: u64) -> Result<(), PortError> {
        self.limit.value = limit;
        Ok(())
    }

    fn on_timer(&mut self, _time: Timestamp, cx: &mut KeyedContext<'_, u8, (u8, u64)>) -> Result<(), PortError> {
        let key = *cx.key();
        for value in self.held.clear(cx) {
            if value > self.limit.value {
                cx.emit((key, value));
            }
        }
        Ok(())
    }
}

type Value = (u8, u64);

fn pipeline(env: &Environment) -> (TestInput<Value>, TestInput<u64>, Collected<Value>) {
    let (values, stream) = TestInput::new(env, "values");
    let (limits, limit_stream) = TestInput::new(env, "limits");
    let function = Above { limit: BroadcastState::new("limit", 10), held: ListState::new("held") };
    let above = stream.key_by(|value: &(u8, u64)| value.0).connect(&limit_stream.broadcast()).process(function);
    (values, limits, Collected::from(&above.uid("above")))
}

#[test]
fn the_broadcast_side_reaches_every_subtask_and_holds_back_event_time() {
    let env = environment(3);
    let (values, limits, output) = pipeline(&env);
    let mut harness = Harness::with_options(&env, tight(3)).unwrap();
    (0..20).for_each(|key| values.push_at((key, 15), 5));
    values.watermark(9);
    harness.run().unwrap();
    assert_eq!(output.take(), [], "the second input has not said anything about time");
    limits.push(14);
    limits.watermark(MAX_TIMESTAMP);
    harness.run().unwrap();
    assert_eq!(sorted(output.take()), (0..20).map(|key| (key, 15)).collect::<Vec<_>>());
}

#[test]
fn broadcast_state_is_whole_in_every_subtask_after_a_restore() {
    let env = environment(2);
    let (values, limits, output) = pipeline(&env);
    let mut harness = Harness::new(&env).unwrap();
    limits.push(100);
    limits.watermark(MAX_TIMESTAMP);
    values.push_at((1, 50), 1);
    harness.run().unwrap();
    let snapshot = harness.checkpoint().unwrap();
    assert_eq!(output.take(), []);

    let env = environment(4);
    let (values, limits, output) = pipeline(&env);
    let mut harness = Harness::restore(&env, HarnessOptions::default(), &snapshot).unwrap();
    (0..20).for_each(|key| values.push_at((key, 100 + u64::from(key % 2)), 2));
    values.end();
    limits.end();
    harness.finish().unwrap();
    let expected: Vec<_> = (0..20u8).filter(|key| key % 2 == 1).map(|key| (key, 101)).collect();
    assert_eq!(sorted(output.take()), expected);
}
