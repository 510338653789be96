//! What a function is told over its life: once each, in order.

use std::sync::{Arc, Mutex};

use millstream_runtime::ids::CheckpointId;

use super::*;
use crate::harness::{Collected, Harness, TestInput};
use crate::prelude::*;

/// What has happened, and in which subtask.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<(u32, String)>>>);

impl Diary {
    fn of(&self, subtask: u32) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|(of, _)| *of == subtask).map(|(_, what)| what.clone()).collect()
    }
}

/// A function, with keys or without, that writes down what it is told.
#[derive(Clone)]
struct Told {
    diary: Diary,
    subtask: u32,
}

impl Told {
    fn note(&self, what: impl Into<String>) {
        self.diary.0.lock().unwrap().push((self.subtask, what.into()));
    }

    fn opened(&mut self, task: &TaskInfo) {
        self.subtask = task.subtask.0;
        self.note(format!("open {} of {}", task.subtask.0, task.parallelism));
    }
}

impl ProcessFunction for Told {
    type In = u64;
    type Out = u64;

    fn open(&mut self, task: &TaskInfo) -> Result<(), PortError> {
        self.opened(task);
        Ok(())
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), PortError> {
        self.note(format!("complete {checkpoint}"));
        Ok(())
    }

    fn close(&mut self) {
        self.note("close");
    }

    fn process(&mut self, n: u64, cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.note(n.to_string());
        cx.emit(n);
        Ok(())
    }

    fn end_of_input(&mut self, _cx: &mut ProcessContext<'_, u64>) -> Result<(), PortError> {
        self.note("end");
        Ok(())
    }
}

#[derive(Clone)]
struct KeyedTold(Told);

impl KeyedProcessFunction for KeyedTold {
    type Key = u64;
    type In = u64;
    type Out = u64;

    fn states(&mut self, _visit: StateVisitor<'_, u64>) {}

    fn open(&mut self, task: &TaskInfo) -> Result<(), PortError> {
        self.0.opened(task);
        Ok(())
    }

    fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<(), PortError> {
        self.0.note(format!("complete {checkpoint}"));
        Ok(())
    }

    fn close(&mut self) {
        self.0.note("close");
    }

    fn process(&mut self, n: u64, _cx: &mut KeyedContext<'_, u64, u64>) -> Result<(), PortError> {
        self.0.note(n.to_string());
        Ok(())
    }
}

#[test]
fn functions_are_opened_told_of_checkpoints_and_the_end_and_closed_once_each() {
    let told = || Told { diary: Diary::default(), subtask: u32::MAX };
    let (plain, keyed) = (told(), told());
    let env = environment(2);
    let (input, numbers) = TestInput::<u64>::new(&env, "numbers");
    let through = numbers.rebalance().process(plain.clone());
    let _output = Collected::from(&through.key_by(|n| *n).process(KeyedTold(keyed.clone())));
    let mut harness = Harness::new(&env).unwrap();
    (10..12).for_each(|n| input.push(n));
    harness.run().unwrap();
    harness.checkpoint().unwrap();
    harness.savepoint().unwrap();
    input.end();
    harness.finish().unwrap();
    drop(harness);
    for subtask in 0..2 {
        let n = 10 + u64::from(subtask);
        let open = format!("open {subtask} of 2");
        let expected = [&open, &n.to_string(), "complete 1", "end", "complete 3", "close"];
        assert_eq!(plain.diary.of(subtask), expected);
        let seen = keyed.diary.of(subtask);
        assert_eq!((seen.first(), seen.last()), (Some(&open), Some(&"close".to_owned())));
        let complete: Vec<_> = seen.iter().filter(|what| what.starts_with("complete")).collect();
        assert_eq!(complete, ["complete 1", "complete 3"]);
    }
    // What was only recorded was neither opened nor closed.
    assert_eq!((plain.diary.of(u32::MAX), keyed.diary.of(u32::MAX)), (vec![], vec![]));
}
