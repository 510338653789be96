//! Tumbling event-time windows with an aggregate: one accumulator per key and window, fired by a timer at its end.

use std::marker::PhantomData;

use super::keyed::function::{KeyedContext, KeyedProcessFunction, Prefetch, StateVisitor};
use super::output::OutputTag;
use crate::batch::Data;
use crate::key::Key;
use crate::ports::PortError;
use crate::ports::state::{StateNumber, Wanted};
use crate::state::keyed::{CurrentKey, Declared, KeyedState, StateBacking};
use crate::state::table::{KeyContext, StateTable};
use crate::time::{Span, Timestamp};

/// Aggregates records incrementally.
pub trait Aggregate: Clone + Send + 'static {
    /// Records in.
    type In: Data;
    /// What is kept per key and window.
    type Accumulator: Data;
    /// What a window gives.
    type Out: Data;

    /// The accumulator of an empty window.
    fn create(&self) -> Self::Accumulator;
    /// Adds a record.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::In);
    /// The result of a window.
    fn result(&self, accumulator: Self::Accumulator, window: Window) -> Self::Out;
}

/// A span of event time: from `start`, before `end`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// First millisecond.
    pub start: Timestamp,
    /// First millisecond after it.
    pub end: Timestamp,
}

/// Windows of one size that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size_ms: i64,
    offset_ms: i64,
}

impl Tumbling {
    /// Windows of this size, aligned to the epoch.
    ///
    /// # Panics
    /// When the size is not positive.
    #[must_use]
    pub fn event_time(size: Span) -> Self {
        assert!(size.0 > 0, "a window lasts at least a millisecond");
        Self { size_ms: size.0, offset_ms: 0 }
    }

    /// Shifts the alignment.
    #[must_use]
    pub fn with_offset(self, offset: Span) -> Self {
        Self { offset_ms: offset.0, ..self }
    }

    /// The window of a time: starts at `t - (t - offset) mod size`, also before the epoch. The first and the last of all time
    /// are cut off at its ends.
    #[inline]
    #[must_use]
    pub fn window(&self, time: Timestamp) -> Window {
        let into = time.saturating_sub(self.offset_ms).rem_euclid(self.size_ms);
        Window { start: time.saturating_sub(into), end: time.saturating_add(self.size_ms - into) }
    }
}

/// The keyed function behind `window(..).aggregate(..)`.
pub struct WindowAggregate<K, A: Aggregate> {
    windows: Tumbling,
    aggregate: A,
    late: Option<OutputTag<A::In>>,
    state: WindowState<K, A>,
    key: PhantomData<fn(K)>,
}

impl<K: Key, A: Aggregate> Clone for WindowAggregate<K, A> {
    fn clone(&self) -> Self {
        Self {
            windows: self.windows,
            aggregate: self.aggregate.clone(),
            late: self.late,
            state: WindowState(self.state.0.clone()),
            key: PhantomData,
        }
    }
}

impl<K: Key, A: Aggregate> WindowAggregate<K, A> {
    /// Aggregates per window; late records go to `late`, or are counted and dropped.
    #[must_use]
    pub fn new(windows: Tumbling, aggregate: A, late: Option<OutputTag<A::In>>) -> Self {
        let state = WindowState(Declared::new("windows", StateTable::new));
        Self { windows, aggregate, late, state, key: PhantomData }
    }
}

/// One accumulator per key and window; the namespace is the end of the window.
struct WindowState<K, A: Aggregate>(Declared<StateTable<i64, K, A::Accumulator>>);

impl<K: Key, A: Aggregate> KeyedState<K> for WindowState<K, A> {
    fn backing(&mut self) -> &mut dyn StateBacking<K> {
        &mut self.0
    }
}

impl<K: Key, A: Aggregate> KeyedProcessFunction for WindowAggregate<K, A> {
    type Key = K;
    type In = A::In;
    type Out = A::Out;

    fn states(&mut self, visit: StateVisitor<'_, K>) {
        visit(&mut self.state);
    }

    fn process(&mut self, value: A::In, cx: &mut KeyedContext<'_, K, A::Out>) -> Result<(), PortError> {
        let Some(time) = cx.timestamp() else {
            return Err(PortError::fix_input(
                "a record without a timestamp came to an event-time window: call `assign_watermarks` before `key_by`",
            ));
        };
        let window = self.windows.window(time);
        if window.end - 1 <= cx.watermark() {
            match &self.late {
                Some(tag) => cx.side(tag, value),
                None => cx.count_late(),
            }
            return Ok(());
        }
        let Self { aggregate, state, .. } = self;
        let mut new = false;
        let accumulator = state.0.table_mut().get_or_insert_with(cx.current(), &window.end, || {
            new = true;
            aggregate.create()
        });
        aggregate.add(accumulator, value);
        if new {
            cx.register_event_time_timer(window.end - 1);
        }
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, K, A::Out>) -> Result<(), PortError> {
        let window = self.windows.window(time);
        if let Some(accumulator) = self.state.0.table_mut().remove(cx.current(), &window.end) {
            cx.emit(self.aggregate.result(accumulator, window));
        }
        Ok(())
    }

    fn prefetch(&mut self, at: &KeyContext<K>, cause: Prefetch, wanted: &mut Wanted) {
        if let Prefetch::Record(Some(time)) | Prefetch::Timer(time) = cause {
            let end = self.windows.window(time).end;
            self.state.0.table_mut().missing(StateNumber(0), at, &end, wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::milliseconds;

    #[test]
    fn boundaries_are_flinks_also_before_the_epoch() {
        let windows = Tumbling::event_time(milliseconds(10));
        assert_eq!(windows.window(0), Window { start: 0, end: 10 });
        assert_eq!(windows.window(9), Window { start: 0, end: 10 });
        assert_eq!(windows.window(-1), Window { start: -10, end: 0 });
        assert_eq!(windows.with_offset(milliseconds(3)).window(2), Window { start: -7, end: 3 });
    }

    #[test]
    fn the_ends_of_time_have_windows_too() {
        for size in [1, 7, 10, i64::MAX] {
            for offset in [-3, 0, 3] {
                let windows = Tumbling::event_time(milliseconds(size)).with_offset(milliseconds(offset));
                for time in [i64::MIN, i64::MIN + 1, i64::MAX - 1] {
                    let Window { start, end } = windows.window(time);
                    assert!(start <= time && time < end, "{time} in {start}..{end}");
                }
            }
        }
    }
}
