//! What ties a state to what is stored: its name, its version, the types of its keys. What does not fit is refused, with
//! what to do.

use super::*;
use crate::harness::{Collected, Harness, Snapshot, TestInput};
use crate::prelude::*;

/// Adds up the numbers of a key, and keeps the last.
#[derive(Clone)]
struct Totals<K> {
    total: ValueState<K, u64>,
    last: ValueState<K, u64>,
    /// Declares the states the other way round.
    swapped: bool,
}

impl<K: Key> Totals<K> {
    fn new(version: u32, swapped: bool) -> Self {
        let (total, last) = (ValueState::new("total").with_version(version), ValueState::new("last"));
        Self { total, last, swapped }
    }
}

impl<K: Key> KeyedProcessFunction for Totals<K> {
    type Key = K;
    type In = u64;
    type Out = (u64, u64);

    fn states(&mut self, visit: StateVisitor<'_, K>) {
        if self.swapped {
            visit(&mut self.last);
            visit(&mut self.total);
        } else {
            visit(&mut self.total);
            visit(&mut self.last);
        }
    }

    fn process(&mut self, n: u64, cx: &mut KeyedContext<'_, K, (u64, u64)>) -> Result<(), PortError> {
        let total = self.total.get_or_insert_with(cx, || 100);
        *total += n;
        let seen = (*total, self.last.get(cx).copied().unwrap_or(0));
        self.last.set(cx, n);
        cx.emit(seen);
        Ok(())
    }
}

type Ran<T> = Result<(Vec<T>, Snapshot), String>;

/// Runs the function over numbers that all have one key, from a snapshot on.
fn run<F>(function: F, key: F::Key, snapshot: Option<&Snapshot>, numbers: &[u64]) -> Ran<F::Out>
where
    F: KeyedProcessFunction<In = u64>,
    F::Out: Data,
{
    let env = environment(1);
    let (input, stream) = TestInput::<u64>::new(&env, "numbers");
    let output = Collected::from(&stream.key_by(move |_| key.clone()).process(function).uid("totals"));
    let harness = match snapshot {
        None => Harness::new(&env),
        Some(snapshot) => Harness::restore(&env, HarnessOptions::default(), snapshot),
    };
    let mut harness = harness.map_err(|error| error.to_string())?;
    numbers.iter().for_each(|n| input.push(*n));
    harness.run().map_err(|error| error.to_string())?;
    let snapshot = harness.checkpoint().map_err(|error| error.to_string())?;
    Ok((output.take(), snapshot))
}

#[test]
fn states_are_found_by_name_in_whatever_order_they_are_declared_and_begin_with_their_default() {
    let (seen, snapshot) = run(Totals::<u32>::new(1, false), 7, None, &[1, 2]).unwrap();
    assert_eq!(seen, [(101, 0), (103, 1)]);
    let (seen, snapshot) = run(Totals::<u32>::new(1, true), 7, Some(&snapshot), &[3]).unwrap();
    assert_eq!(seen, [(106, 2)]);
    let (seen, _) = run(Totals::<u32>::new(1, false), 7, Some(&snapshot), &[4]).unwrap();
    assert_eq!(seen, [(110, 3)]);
}

#[test]
fn a_state_in_another_version_is_refused_and_says_which() {
    let (_, snapshot) = run(Totals::<u32>::new(1, false), 7, None, &[1]).unwrap();
    let error = run(Totals::<u32>::new(2, false), 7, Some(&snapshot), &[1]).err().unwrap();
    assert!(error.contains("'total' is stored in version 1, and the program declares version 2"), "{error}");
}

#[test]
fn a_key_of_another_type_is_refused_also_when_its_first_bytes_would_do() {
    let (_, snapshot) = run(Totals::<u32>::new(1, false), 7, None, &[1]).unwrap();
    for error in [
        run(Totals::<String>::new(1, false), String::new(), Some(&snapshot), &[1]).err().unwrap(),
        run(Totals::<u16>::new(1, false), 7, Some(&snapshot), &[1]).err().unwrap(),
    ] {
        assert!(error.contains("the key type of an operator cannot change"), "{error}");
    }
}
