//! A user's judged transactions of the last ten minutes, as `small-purchases` needs them. Short ones are scanned; long
//! ones are counted as they come and go, so that a busy user costs no more per transaction than a quiet one.

use std::collections::{BTreeMap, VecDeque};

use compact_str::CompactString;
use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rules::RuleSet;

/// Up to this many purchases are scanned.
const SCANNED: usize = 32;

/// A judged transaction. All amounts are kept: which ones are small is up to the rule set of a later one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Purchase {
    pub(super) time: Timestamp,
    pub(super) transaction_id: u64,
    pub(super) amount_cents: u64,
    pub(super) city: CompactString,
}

/// Purchases in the order in which they were judged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RecentPurchases {
    purchases: VecDeque<Purchase>,
    /// Derived from `purchases`, so not part of the state: rebuilt when needed.
    #[serde(skip)]
    counts: Option<Box<SmallCounts>>,
}

/// Counts of the purchases below an amount.
#[derive(Clone, Debug)]
struct SmallCounts {
    below_cents: u64,
    count: u64,
    by_city: BTreeMap<CompactString, u64>,
}

impl SmallCounts {
    fn of(purchases: &VecDeque<Purchase>, below_cents: u64) -> Self {
        let mut counts = Self { below_cents, count: 0, by_city: BTreeMap::new() };
        purchases.iter().for_each(|purchase| counts.add(purchase));
        counts
    }

    fn add(&mut self, purchase: &Purchase) {
        if purchase.amount_cents >= self.below_cents {
            return;
        }
        self.count += 1;
        if let Some(count) = self.by_city.get_mut(&purchase.city) {
            *count += 1;
        } else {
            self.by_city.insert(purchase.city.clone(), 1);
        }
    }

    fn remove(&mut self, purchase: &Purchase) {
        if purchase.amount_cents >= self.below_cents {
            return;
        }
        self.count -= 1;
        if let Some(count) = self.by_city.get_mut(&purchase.city) {
            *count -= 1;
            if *count == 0 {
                self.by_city.remove(&purchase.city);
            }
        }
    }
}

impl RecentPurchases {
    pub(super) fn push(&mut self, purchase: Purchase) {
        if let Some(counts) = &mut self.counts {
            counts.add(&purchase);
        }
        // Most users buy once in ten minutes: growing by the usual four would double a user's memory.
        if self.purchases.capacity() == 0 {
            self.purchases.reserve_exact(1);
        }
        self.purchases.push_back(purchase);
    }

    /// Drops what is not newer than `time`.
    pub(super) fn forget_until(&mut self, time: Timestamp) {
        while self.purchases.front().is_some_and(|purchase| purchase.time <= time) {
            if let (Some(purchase), Some(counts)) = (self.purchases.pop_front(), &mut self.counts) {
                counts.remove(&purchase);
            }
        }
        if self.counts.is_some() && self.purchases.len() <= SCANNED / 2 {
            self.counts = None;
        }
        if self.purchases.is_empty() && self.purchases.capacity() > 0 {
            self.purchases = VecDeque::new();
        }
    }

    /// Whether there are enough small purchases from enough cities.
    pub(super) fn are_suspicious(&mut self, rules: &RuleSet) -> bool {
        if (self.purchases.len() as u64) < rules.small_count.max(rules.small_cities) {
            return false;
        }
        if self.purchases.len() <= SCANNED {
            return self.scan(rules);
        }
        let below_cents = rules.small_amount_cents;
        if self.counts.as_ref().is_none_or(|counts| counts.below_cents != below_cents) {
            self.counts = Some(Box::new(SmallCounts::of(&self.purchases, below_cents)));
        }
        self.counts.as_ref().is_some_and(|counts| {
            counts.count >= rules.small_count && counts.by_city.len() as u64 >= rules.small_cities
        })
    }

    fn scan(&self, rules: &RuleSet) -> bool {
        let mut count = 0;
        let mut cities: [&str; SCANNED] = [""; SCANNED];
        let mut distinct = 0;
        for purchase in self.purchases.iter().filter(|purchase| purchase.amount_cents < rules.small_amount_cents) {
            count += 1;
            if !cities[..distinct].contains(&purchase.city.as_str()) {
                cities[distinct] = &purchase.city;
                distinct += 1;
            }
        }
        count >= rules.small_count && distinct as u64 >= rules.small_cities
    }

    /// Sum and ids of the purchases below an amount.
    pub(super) fn small(&self, below_cents: u64) -> (u128, Vec<u64>) {
        let small = self.purchases.iter().filter(|purchase| purchase.amount_cents < below_cents);
        (
            small.clone().map(|purchase| u128::from(purchase.amount_cents)).sum(),
            small.map(|purchase| purchase.transaction_id).collect(),
        )
    }

    /// Time of the newest purchase.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        self.purchases.back().map(|purchase| purchase.time)
    }
}
