//! The states and timers of one keyed operator: declares them, takes cuts, and brings back from the local store what
//! a restarted subtask needs: timers first, the entries of a batch on demand, everything else in the background. What
//! leaves memory, and whether it comes back, is decided in `residency`.

use std::sync::Arc;

use super::function::StateVisitor;
use super::residency::Residency;
use crate::chain::{ChainContext, Completion, Flow, OperatorSlot};
use crate::ids::OperatorUid;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::ports::PortError;
use crate::ports::state::{EntryAddress, StateNumber, StateReader, Wanted};
use crate::state::cut::{Entries, StateDeclaration};
use crate::state::keyed::StateBacking;
use crate::state::keyed::backing::Table;
use crate::state::timers::Timers;

/// The entries of one state in one key group.
type Scanned = (StateNumber, KeyGroup, Entries);
/// Results of the work that a backend starts.
enum Answer {
    /// All timers of all key groups.
    Timers(Result<Vec<Scanned>, PortError>),
    /// The entries that a batch waits for.
    Fetched(Result<Vec<Scanned>, PortError>),
    /// One key group, all states; `None` when there is no room for it.
    Group(KeyGroup, Result<Option<Vec<Scanned>>, PortError>),
}

/// Visits the states of the function that owns the backend.
pub type VisitStates<'a, K> = &'a mut dyn FnMut(StateVisitor<'_, K>);

/// States and timers of one operator in one subtask.
pub struct KeyedBackend<K> {
    uid: OperatorUid,
    pub(super) slot: OperatorSlot,
    /// Event-time timers.
    pub event_timers: Timers<K>,
    /// Processing-time timers.
    pub processing_timers: Timers<K>,
    pub(super) declarations: Vec<StateDeclaration>,
    timers_loaded: bool,
    pub(super) fetching: bool,
    pub(super) residency: Residency,
    /// The next key group to encode; the end when the cut is complete.
    encode_next: u16,
}

impl<K: Key> KeyedBackend<K> {
    /// Attaches the states of a function, and begins their restore when there is something to restore.
    #[must_use]
    pub fn new(
        uid: OperatorUid,
        slot: OperatorSlot,
        reader: Option<Arc<dyn StateReader>>,
        cx: &ChainContext,
        visit: VisitStates<'_, K>,
    ) -> Self {
        let groups = cx.task.key_groups.clone();
        let timers = |name| Timers::new(name, cx.task.max_parallelism, groups.clone());
        let mut backend = Self {
            uid,
            slot,
            event_timers: timers("_timers.event"),
            processing_timers: timers("_timers.processing"),
            declarations: Vec::new(),
            timers_loaded: reader.is_none(),
            fetching: false,
            encode_next: groups.end,
            residency: Residency::new(reader, cx),
        };
        let (restoring, mut declarations) = (backend.is_partial(), Vec::new());
        visit(&mut |state| state.backing().attach(groups.clone()));
        backend.each(visit, &mut |number, state| {
            if restoring {
                state.entries().begin_restore();
            }
            declarations.push(StateDeclaration { number, name: state.name().to_owned(), version: state.version() });
        });
        if let Some(reader) = backend.residency.reader() {
            reader.declare(&declarations);
        }
        backend.declarations = declarations;
        backend
    }

    /// Calls `act` with every state of the function, then with the timers, each with its number.
    pub(super) fn each(
        &mut self,
        visit: VisitStates<'_, K>,
        act: &mut dyn FnMut(StateNumber, &mut dyn StateBacking<K>),
    ) {
        let mut number = 0;
        visit(&mut |state| {
            act(StateNumber(number), state.backing());
            number += 1;
        });
        act(StateNumber(number), &mut self.event_timers);
        act(StateNumber(number + 1), &mut self.processing_timers);
    }

    /// Starts bringing back what was stored.
    pub fn open(&mut self, cx: &mut ChainContext) {
        let Some(reader) = self.residency.reader() else { return };
        let count = self.declarations.len();
        let timers = [self.declarations[count - 2].number, self.declarations[count - 1].number];
        let groups = cx.task.key_groups.clone();
        cx.start(self.slot, move || {
            let of_group = |group| timers.map(|state| whole(state, KeyGroup(group)));
            let prefixes: Vec<_> = groups.flat_map(of_group).collect();
            Answer::Timers(scan(&*reader, &prefixes, usize::MAX).map(Option::unwrap_or_default))
        });
    }

    /// Whether the operator must wait before it processes anything.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.timers_loaded || self.fetching
    }

    /// Whether entries may have to be fetched before rows are processed.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.residency.partial
    }

    /// Fetches entries; `Ready` when there is nothing to fetch.
    pub fn fetch(&mut self, wanted: Wanted, cx: &mut ChainContext) -> Flow {
        let Some(reader) = self.residency.reader() else { return Flow::Ready };
        let Wanted { mut entries, mut prefixes } = wanted;
        if entries.is_empty() && prefixes.is_empty() {
            return Flow::Ready;
        }
        for addresses in [&mut entries, &mut prefixes] {
            addresses.sort_unstable();
            addresses.dedup();
        }
        self.fetching = true;
        cx.start(self.slot, move || Answer::Fetched(fetch(&*reader, &entries, &prefixes)));
        Flow::Waiting
    }

    /// Takes a result that belongs to this backend.
    ///
    /// # Errors
    /// When the local store failed or holds something else than the program's types.
    pub fn completed(
        &mut self,
        completion: &mut Option<Completion>,
        visit: VisitStates<'_, K>,
        cx: &mut ChainContext,
    ) -> Result<(), PortError> {
        let Some(Completion { result, .. }) = completion.take_if(|offered| offered.slot == self.slot) else {
            return Ok(());
        };
        let answer = result.downcast::<Answer>().expect("only the backend starts work in its slot");
        match *answer {
            Answer::Timers(timers) => {
                for (number, group, entries) in timers? {
                    self.load(visit, number, group, &entries)?;
                }
                for group in cx.task.key_groups.clone() {
                    self.event_timers.finish_restore(KeyGroup(group));
                    self.processing_timers.finish_restore(KeyGroup(group));
                }
                self.timers_loaded = true;
                if let Some(time) = self.processing_timers.earliest() {
                    cx.wake_at(time);
                }
                self.scan_on(visit, cx);
            }
            Answer::Fetched(fetched) => {
                for (number, group, entries) in fetched? {
                    self.load(visit, number, group, &entries)?;
                }
                self.fetching = false;
            }
            Answer::Group(group, scanned) => {
                let scanned = scanned?;
                let fits = scanned.is_some();
                for (number, group, entries) in scanned.unwrap_or_default() {
                    self.load(visit, number, group, &entries)?;
                }
                self.scanned(group, fits, visit, cx);
            }
        }
        Ok(())
    }

    /// Starts the scan of a whole key group, of at most so many bytes.
    pub(super) fn start_scan(
        &self,
        group: KeyGroup,
        budget: usize,
        reader: Arc<dyn StateReader>,
        cx: &mut ChainContext,
    ) {
        let states = &self.declarations[..self.declarations.len() - 2];
        let prefixes: Vec<_> = states.iter().map(|declared| whole(declared.number, group)).collect();
        cx.start(self.slot, move || Answer::Group(group, scan(&*reader, &prefixes, budget)));
    }

    fn load(
        &mut self,
        visit: VisitStates<'_, K>,
        wanted: StateNumber,
        group: KeyGroup,
        entries: &Entries,
    ) -> Result<(), PortError> {
        let mut outcome = Ok(());
        self.each(visit, &mut |number, state| {
            if number == wanted {
                for (key, value) in entries.iter() {
                    if outcome.is_ok() {
                        outcome = state.entries().load(group, key, value.unwrap_or_default()).map_err(|error| {
                            let message = format!("state '{}': {}", state.name(), error.message);
                            PortError { kind: error.kind, message }
                        });
                    }
                }
            }
        });
        outcome
    }

    /// Begins a cut.
    pub fn freeze(&mut self, visit: VisitStates<'_, K>, cx: &mut ChainContext) {
        self.each(visit, &mut |_, state| state.entries().freeze());
        self.residency.frozen(cx.cut_number);
        self.encode_next = cx.task.key_groups.start;
        cx.cut.operator(&self.uid).declarations.clone_from(&self.declarations);
    }

    /// Encodes one key group of the cut; `Blocked` when there is more to do.
    ///
    /// # Errors
    /// When a value refuses to be serialised.
    pub fn encode_some(&mut self, visit: VisitStates<'_, K>, cx: &mut ChainContext) -> Result<Flow, PortError> {
        if self.encode_next >= cx.task.key_groups.end {
            return Ok(Flow::Ready);
        }
        let group = KeyGroup(self.encode_next);
        self.encode_next += 1;
        let mut outcome = Ok(());
        let uid = self.uid.clone();
        self.each(visit, &mut |number, state| match state.entries().encode_group(number, group) {
            Ok(section) => cx.cut.operator(&uid).keyed.extend(section),
            Err(error) => outcome = Err(error),
        });
        outcome.map(|()| if self.encode_next >= cx.task.key_groups.end { Flow::Ready } else { Flow::Blocked })
    }
}

/// The address of everything that a state has in a key group.
fn whole(state: StateNumber, group: KeyGroup) -> EntryAddress {
    EntryAddress { state, group, key: Vec::new() }
}

/// Everything below the prefixes; `None` when it is more than so many bytes. A part of it would be of no use: a map has to be
/// complete.
fn scan(reader: &dyn StateReader, prefixes: &[EntryAddress], budget: usize) -> Result<Option<Vec<Scanned>>, PortError> {
    let (mut sections, mut bytes, mut full): (Vec<Scanned>, _, _) = (Vec::new(), 0, false);
    let outcome = reader.scan(prefixes, &mut |found, key, value| {
        bytes += key.len() + value.len();
        full = bytes > budget;
        if full {
            return Err(PortError::retry("there is no room for more"));
        }
        section(&mut sections, found).push(key, Some(value));
        Ok(())
    });
    if full {
        return Ok(None);
    }
    outcome.map(|()| Some(sections))
}

fn fetch(
    reader: &dyn StateReader,
    addresses: &[EntryAddress],
    prefixes: &[EntryAddress],
) -> Result<Vec<Scanned>, PortError> {
    let mut sections =
        if prefixes.is_empty() { Vec::new() } else { scan(reader, prefixes, usize::MAX)?.unwrap_or_default() };
    if !addresses.is_empty() {
        for (address, value) in addresses.iter().zip(reader.fetch(addresses)?) {
            if let Some(value) = value {
                section(&mut sections, address).push(&address.key, Some(&value));
            }
        }
    }
    Ok(sections)
}

/// The section that an entry of this address belongs to: the last one, or a new one behind it.
fn section<'a>(sections: &'a mut Vec<Scanned>, address: &EntryAddress) -> &'a mut Entries {
    let is_last = sections.last().is_some_and(|(state, group, _)| (*state, *group) == (address.state, address.group));
    if !is_last {
        sections.push((address.state, address.group, Entries::default()));
    }
    &mut sections.last_mut().expect("pushed just now unless it was there").2
}
