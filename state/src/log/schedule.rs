//! Runs actors over one store in every order of their calls, with faults: each call is a place where another actor may go
//! on, a call may fail or happen late. For tests of the logs only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use millstream_runtime::ports::PortError;
use millstream_runtime::ports::store::{BlobStore, Created};

use crate::blob::{Fault, MemoryBlobs, Operation};

/// What may happen to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// It succeeds.
    Normally,
    /// It goes wrong in this way.
    Wrong(Fault),
    /// It fails for whoever called, and a write happens at any later time, or never.
    Late,
}

/// Decides what happens next: one of so many possibilities.
pub trait Choices {
    /// A number below `options`.
    fn choose(&mut self, options: usize) -> usize;
}

/// Goes through all sequences of choices, depth first.
#[derive(Debug, Default)]
pub struct Exhaustive {
    /// Chosen, of how many.
    path: Vec<(usize, usize)>,
    at: usize,
}

impl Exhaustive {
    /// The next sequence; `false` when there is none.
    pub fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, options)) = self.path.pop() {
            if chosen + 1 < options {
                self.path.push((chosen + 1, options));
                return true;
            }
        }
        false
    }
}

impl Choices for Exhaustive {
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.path.len() {
            self.path.push((0, options));
        }
        let (chosen, of) = self.path[self.at];
        assert_eq!(of, options, "the same choices lead to the same place");
        self.at += 1;
        chosen
    }
}

/// Draws from a seed (SplitMix64).
pub struct Seeded(pub u64);

impl Choices for Seeded {
    fn choose(&mut self, options: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % options as u64) as usize
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Running,
    Ready(Operation),
    Ended,
}

struct State {
    /// Calls pass at once.
    open: bool,
    actors: Vec<Status>,
    /// Who goes on, and what happens to its call.
    granted: Option<(usize, Happens)>,
    /// Writes that may still happen: name, content, whether only if absent.
    late: Vec<(String, Vec<u8>, bool)>,
}

/// Lets one actor at a time make one call.
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while it holds the lock")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("nobody panics while it holds the lock")
    }

    fn pass(&self, actor: usize, operation: Operation) -> Happens {
        let mut state = self.lock();
        if state.open {
            return Happens::Normally;
        }
        state.actors[actor] = Status::Ready(operation);
        self.changed.notify_all();
        loop {
            if let Some((granted, happens)) = state.granted
                && granted == actor
            {
                state.granted = None;
                state.actors[actor] = Status::Running;
                return happens;
            }
            state = self.wait(state);
        }
    }
}

/// The store as one actor sees it.
struct Stepped {
    actor: usize,
    gate: Arc<Gate>,
    blobs: MemoryBlobs,
}

impl Stepped {
    /// Passes the gate; `None` when the call fails now, and perhaps happens later.
    fn begin(&self, operation: Operation, write: Option<(&str, &[u8], bool)>) -> Option<()> {
        match self.gate.pass(self.actor, operation) {
            Happens::Normally => {}
            Happens::Wrong(fault) => self.blobs.fail_after(operation, 1, fault),
            Happens::Late => {
                if let Some((path, bytes, if_absent)) = write {
                    self.gate.lock().late.push((path.to_string(), bytes.to_vec(), if_absent));
                }
                return None;
            }
        }
        Some(())
    }
}

fn lost() -> PortError {
    PortError::retry("no answer")
}

impl BlobStore for Stepped {
    fn put(&self, path: &str, parts: &[&[u8]]) -> Result<(), PortError> {
        self.begin(Operation::Put, Some((path, &parts.concat(), false))).ok_or_else(lost)?;
        self.blobs.put(path, parts)
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> Result<Created, PortError> {
        self.begin(Operation::PutIfAbsent, Some((path, bytes, true))).ok_or_else(lost)?;
        self.blobs.put_if_absent(path, bytes)
    }
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.begin(Operation::Get, None).ok_or_else(lost)?;
        self.blobs.get(path)
    }
    fn get_range(&self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, PortError> {
        self.begin(Operation::Get, None).ok_or_else(lost)?;
        self.blobs.get_range(path, offset, length)
    }
    fn delete(&self, path: &str) -> Result<(), PortError> {
        self.begin(Operation::Delete, None).ok_or_else(lost)?;
        self.blobs.delete(path)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, PortError> {
        self.begin(Operation::List, None).ok_or_else(lost)?;
        self.blobs.list(prefix)
    }
}

/// What an actor does; made with its store while calls pass at once, run when they are scheduled.
pub type Actor<R> = Box<dyn FnOnce() -> R + Send>;

/// Makes an actor from its number and its store.
pub type MakeActor<'a, R> = &'a dyn Fn(usize, Arc<dyn BlobStore>) -> Actor<R>;

/// How much may happen in one run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Calls that go wrong.
    pub faults: usize,
    /// How often an actor is interrupted that could go on (Musuvathi and Qadeer 2007: few show most errors).
    pub interruptions: usize,
}

impl Bounds {
    /// So many faults, and any number of interruptions.
    pub fn faults(faults: usize) -> Self {
        Self { faults, interruptions: usize::MAX }
    }
}

/// Runs actors over a store, call by call, within bounds. Answers what each returned.
pub fn run<R: Send>(
    blobs: &MemoryBlobs,
    actors: usize,
    make: MakeActor<'_, R>,
    bounds: Bounds,
    choices: &mut dyn Choices,
) -> Vec<R> {
    let state = State { open: true, actors: vec![Status::Running; actors], granted: None, late: Vec::new() };
    let gate = Arc::new(Gate { state: Mutex::new(state), changed: Condvar::new() });
    let made: Vec<Actor<R>> = (0..actors)
        .map(|actor| make(actor, Arc::new(Stepped { actor, gate: Arc::clone(&gate), blobs: blobs.clone() })))
        .collect();
    gate.lock().open = false;
    thread::scope(|scope| {
        let threads: Vec<_> = made
            .into_iter()
            .enumerate()
            .map(|(actor, act)| {
                let gate = Arc::clone(&gate);
                scope.spawn(move || {
                    let result = catch_unwind(AssertUnwindSafe(act));
                    gate.lock().actors[actor] = Status::Ended;
                    gate.changed.notify_all();
                    result
                })
            })
            .collect();
        schedule(&gate, blobs, bounds, choices);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("panics are caught"))
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn schedule(gate: &Gate, blobs: &MemoryBlobs, bounds: Bounds, choices: &mut dyn Choices) {
    let Bounds { mut faults, mut interruptions } = bounds;
    let mut last = None;
    loop {
        let mut state = gate.lock();
        while state.granted.is_some() || state.actors.contains(&Status::Running) {
            state = gate.wait(state);
        }
        let mut options: Vec<(usize, Happens)> = Vec::new();
        for (actor, status) in state.actors.iter().enumerate() {
            let Status::Ready(operation) = status else { continue };
            let may_go_on = last.filter(|last| *last != actor && matches!(state.actors[*last], Status::Ready(_)));
            if interruptions == 0 && may_go_on.is_some() {
                continue;
            }
            options.push((actor, Happens::Normally));
            if faults > 0 {
                options.extend(faults_of(*operation).iter().map(|happens| (actor, *happens)));
            }
        }
        if options.is_empty() {
            return;
        }
        let chosen = choices.choose(options.len() + state.late.len());
        match options.get(chosen) {
            Some((actor, happens)) => {
                faults -= usize::from(*happens != Happens::Normally);
                if let Some(last) = last.replace(*actor)
                    && last != *actor
                    && matches!(state.actors[last], Status::Ready(_))
                {
                    interruptions -= 1;
                }
                state.granted = Some((*actor, *happens));
                drop(state);
                gate.changed.notify_all();
            }
            None => {
                let (path, bytes, if_absent) = state.late.remove(chosen - options.len());
                drop(state);
                let landed =
                    if if_absent { blobs.put_if_absent(&path, &bytes).map(drop) } else { blobs.put(&path, &[&bytes]) };
                landed.expect("no fault is planned");
            }
        }
    }
}

fn faults_of(operation: Operation) -> &'static [Happens] {
    match operation {
        Operation::PutIfAbsent => &[
            Happens::Wrong(Fault::DoneButError),
            Happens::Wrong(Fault::Refused),
            Happens::Wrong(Fault::FalselyExists),
            Happens::Late,
        ],
        Operation::Put => &[Happens::Late],
        Operation::Get | Operation::List | Operation::Delete => &[Happens::Wrong(Fault::Refused)],
    }
}
