//! Decides what the sample holds and in which order: which lines are malformed or late, the planted cases, and the
//! ordinary shopping around them. A stream: memory does not grow with the number of events but for the few odd lines.

use std::{cmp::Reverse, collections::BinaryHeap};

use millstream_runtime::time::Timestamp;

use super::{
    OUT_OF_ORDER_MS, SAMPLE_START,
    cities::{CITIES, City, METROPOLISES},
    random::Random,
};
use crate::judge::WINDOW_MS;

/// A transaction that is on time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) time: Timestamp,
    pub(super) user_id: u64,
    pub(super) amount_cents: u64,
    pub(super) city: &'static City,
}

/// What a line of the sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    OnTime,
    Malformed,
    Late,
}

const FIRST_USER: u64 = 1_000;
/// Users with planted cases: one each for the four rules, and one who stays just below two of them.
const PLANTED_USERS_PER_CASE: u64 = 5;

/// The plan of a sample.
pub(super) struct Plan {
    /// Planted cases of each rule.
    pub(super) cases: u64,
    events: u64,
    /// Numbers of the lines that are not on time, ascending.
    odd_slots: Vec<(u64, Slot)>,
    seed: u64,
}

impl Plan {
    pub(super) fn new(events: u64, seed: u64) -> Self {
        // A case takes up to 35 lines; they must fit and stay a minority.
        let cases = if events < 50 { 0 } else { (events / 200).clamp(1, 60) };
        let malformed = (events / 1_000).max((events / 50).min(6));
        let late = (events / 2_000).max((events / 100).min(3));
        let mut random = Random::new(seed, "slots");
        let mut odd_slots = Vec::new();
        for (count, kind) in [(malformed, Slot::Malformed), (late, Slot::Late)] {
            for number in 0..count {
                // One somewhere in each stretch of equal length; never the first line, so that every late line has
                // a transaction before it.
                let (start, end) = (number * events / count, (number + 1) * events / count);
                odd_slots.push(((start + random.below(end - start)).max(1), kind));
            }
        }
        odd_slots.sort_unstable();
        // A line can be only one of them: the second gives way to the next line.
        for at in 1..odd_slots.len() {
            odd_slots[at].0 = odd_slots[at].0.max(odd_slots[at - 1].0 + 1);
        }
        odd_slots.retain(|(slot, _)| *slot < events);
        Self { cases, events, odd_slots, seed }
    }

    /// What each line is, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let mut odd = self.odd_slots.iter().peekable();
        (0..self.events).map(move |slot| odd.next_if(|(at, _)| *at == slot).map_or(Slot::OnTime, |(_, kind)| *kind))
    }

    /// The transactions that are on time, in the order of their lines.
    pub(super) fn on_time(&self) -> OnTime<'_> {
        let mut planted = self.planted();
        planted.sort_by_key(|event| event.time);
        let on_time = self.events - self.odd_slots.len() as u64;
        let background = on_time - planted.len() as u64;
        OnTime {
            plan: self,
            random: Random::new(self.seed, "background"),
            planted: planted.into_iter().peekable(),
            background: 0..background,
            waiting: BinaryHeap::new(),
            drawn: 0,
        }
    }

    /// Length of the sample in event time: a day for a million events, at least an hour.
    fn span_ms(&self) -> i64 {
        i64::try_from(self.events * 864 / 10).expect("fewer events than milliseconds in an age").max(3_600_000)
    }

    /// The middle of the sample, on a whole second.
    pub(super) fn middle(&self) -> Timestamp {
        SAMPLE_START + self.span_ms() / 2 / 1_000 * 1_000
    }

    fn background_users(&self) -> u64 {
        (self.events / 20).max(100)
    }

    fn planted_user(&self, case: u64, kind: u64) -> u64 {
        FIRST_USER + self.background_users() + case * PLANTED_USERS_PER_CASE + kind
    }

    /// Users blocked from the start (every second case), or all.
    pub(super) fn blocked_users(&self, all: bool) -> Vec<u64> {
        (0..self.cases).filter(|case| all || case % 2 == 0).map(|case| self.planted_user(case, 3)).collect()
    }

    /// Ordinary shopping of some user at a time, in the city the user lives in.
    pub(super) fn background(&self, random: &mut Random, time: Timestamp) -> Event {
        let user_id = FIRST_USER + random.below(self.background_users());
        Event { time, user_id, amount_cents: ordinary_amount(random), city: home(user_id) }
    }

    fn planted(&self) -> Vec<Event> {
        let mut random = Random::new(self.seed, "planted");
        let mut events = Vec::new();
        for case in 0..self.cases {
            self.plant_windows(case, &mut random, &mut events);
            self.plant_small_purchases(case, &mut random, &mut events);
            self.plant_journey(case, &mut random, &mut events);
            self.plant_blocked(case, &mut random, &mut events);
        }
        events
    }

    /// More than ten in a window by one user, and exactly ten by another.
    fn plant_windows(&self, case: u64, random: &mut Random, events: &mut Vec<Event>) {
        let many = 11 + random.below(5);
        for (kind, count) in [(0, many), (4, 10)] {
            let user_id = self.planted_user(case, kind);
            let start = SAMPLE_START + random.below_i64(self.span_ms() / WINDOW_MS) * WINDOW_MS;
            for _ in 0..count {
                let time = start + random.below_i64(WINDOW_MS);
                events.push(Event { time, user_id, amount_cents: ordinary_amount(random), city: home(user_id) });
            }
        }
    }

    /// Three small purchases in neighbouring cities, slowly enough to be possible.
    fn plant_small_purchases(&self, case: u64, random: &mut Random, events: &mut Vec<Event>) {
        let user_id = self.planted_user(case, 1);
        let mut time = self.planted_time(random);
        for city in random.pick(METROPOLISES) {
            events.push(Event { time, user_id, amount_cents: 100 + random.below(900), city });
            time += 150_000 + random.below_i64(90_000);
        }
    }

    /// Two purchases on different continents within the hour.
    fn plant_journey(&self, case: u64, random: &mut Random, events: &mut Vec<Event>) {
        let user_id = self.planted_user(case, 2);
        let start = self.planted_time(random);
        let from = usize::try_from(random.below(CITIES.len() as u64)).expect("less than the number of cities");
        let to = (from + CITIES.len() / 2) % CITIES.len();
        for (time, city) in [(start, &CITIES[from]), (start + 300_000 + random.below_i64(2_400_000), &CITIES[to])] {
            events.push(Event { time, user_id, amount_cents: ordinary_amount(random), city });
        }
    }

    /// A blocked user's shopping; those who are blocked from the middle on shop only then.
    fn plant_blocked(&self, case: u64, random: &mut Random, events: &mut Vec<Event>) {
        let user_id = self.planted_user(case, 3);
        let (start, length) =
            if case.is_multiple_of(2) { (SAMPLE_START, self.span_ms()) } else { (self.middle(), self.span_ms() / 2) };
        for _ in 0..3 {
            let time = start + random.below_i64(length);
            events.push(Event { time, user_id, amount_cents: ordinary_amount(random), city: home(user_id) });
        }
    }

    /// A time that leaves room for what follows within 45 minutes.
    fn planted_time(&self, random: &mut Random) -> Timestamp {
        SAMPLE_START + random.below_i64(self.span_ms() - 2_700_000)
    }
}

fn home(user_id: u64) -> &'static City {
    Random::new(user_id, "home").pick(CITIES)
}

/// From 1.00 up, mostly some tens, seldom above two hundred.
fn ordinary_amount(random: &mut Random) -> u64 {
    let most = 500 + random.below(25_000);
    100 + random.below(most)
}

/// The transactions that are on time, in the order of arrival: event time plus a delay below [`OUT_OF_ORDER_MS`].
pub(super) struct OnTime<'a> {
    plan: &'a Plan,
    random: Random,
    planted: std::iter::Peekable<std::vec::IntoIter<Event>>,
    background: std::ops::Range<u64>,
    /// Drawn and not yet arrived, by time of arrival and order of drawing; holds about three seconds.
    waiting: BinaryHeap<Reverse<Waiting>>,
    drawn: u64,
}

struct Waiting {
    arrival: Timestamp,
    number: u64,
    event: Event,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrival, self.number).cmp(&(other.arrival, other.number))
    }
}

impl OnTime<'_> {
    /// Start of the stretch of time that the next ordinary transaction falls into.
    fn background_from(&self, number: u64) -> Timestamp {
        let share =
            u128::from(number) * u128::from(self.plan.span_ms().unsigned_abs()) / u128::from(self.background.end);
        SAMPLE_START + i64::try_from(share).expect("less than the whole span")
    }

    /// Draws the next event in the order of event time, ordinary or planted.
    fn draw(&mut self) -> Option<Event> {
        if self.background.is_empty() {
            return self.planted.next();
        }
        let time = self.background_from(self.background.start);
        if let Some(planted) = self.planted.next_if(|planted| planted.time <= time) {
            return Some(planted);
        }
        self.background.start += 1;
        Some(self.plan.background(&mut self.random, time))
    }
}

impl Iterator for OnTime<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        // Whatever is drawn later has a later event time, so it arrives no earlier than the newest drawn event.
        while let Some(event) = self.draw() {
            let arrival = event.time + self.random.below_i64(OUT_OF_ORDER_MS);
            self.waiting.push(Reverse(Waiting { arrival, number: self.drawn, event }));
            self.drawn += 1;
            if self.waiting.peek().is_some_and(|Reverse(first)| first.arrival <= event.time) {
                break;
            }
        }
        self.waiting.pop().map(|Reverse(waiting)| waiting.event)
    }
}
