//! A table entry that turns a field into a metric, and the groups of things that have such tables.
//! Used by [`registry`](super::registry); one table serves OpenTelemetry, REST and Prometheus.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

/// The time of a sample, given by whoever samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the epoch, for lags and ages.
    pub wall_ms: i64,
    /// Nanoseconds of the monotonic clock that the subtasks use, for rates.
    pub monotonic_ns: u64,
}

/// How a metric is read from a reading `R`.
#[derive(Debug)]
pub enum Read<R> {
    /// Only grows while the thing lives.
    Counter(fn(&R) -> u64),
    /// A whole number, if there is one.
    Gauge(fn(&R) -> Option<i64>),
    /// A rate or ratio.
    Rate(fn(&R) -> f64),
    /// Yes or no: 1 or 0, in REST `true` or `false`.
    Flag(fn(&R) -> bool),
}

/// One metric of a kind of thing.
#[derive(Debug)]
pub struct Instrument<R: 'static> {
    /// Flink's name.
    pub name: &'static str,
    /// Unit in UCUM, as OpenTelemetry asks; empty for plain counts.
    pub unit: &'static str,
    /// Meaning.
    pub description: &'static str,
    /// Where it comes from.
    pub read: Read<R>,
}

impl<R> Instrument<R> {
    pub(super) const fn new(name: &'static str, unit: &'static str, description: &'static str, read: Read<R>) -> Self {
        Self { name, unit, description, read }
    }

    /// The value as REST writes it; nothing if there is none.
    pub(super) fn text(&self, reading: &R) -> Option<String> {
        match self.read {
            Read::Counter(read) => Some(read(reading).to_string()),
            Read::Gauge(read) => read(reading).map(|value| value.to_string()),
            // Java's form of doubles: always with a fraction.
            Read::Rate(read) => Some(format!("{:?}", read(reading))),
            Read::Flag(read) => Some(read(reading).to_string()),
        }
    }
}

/// Something that has metrics.
pub trait Measured: Send + Sync + 'static {
    /// All values at one moment.
    type Reading: 'static;

    /// Its metrics.
    const INSTRUMENTS: &'static [Instrument<Self::Reading>];

    /// Computes rates since the last sample.
    fn sample(&self, now: Now);

    /// The values as of the last sample; counters as they are.
    fn reading(&self, now: Now) -> Self::Reading;
}

/// All values of a reading by Flink's names, as REST writes them.
pub(super) fn values<M: Measured>(reading: &M::Reading) -> BTreeMap<String, String> {
    let value = |metric: &Instrument<M::Reading>| Some((metric.name.to_string(), metric.text(reading)?));
    M::INSTRUMENTS.iter().filter_map(value).collect()
}

/// Things of one kind, by name, with the attributes that tell them apart.
#[derive(Debug)]
pub(super) struct Group<M> {
    inner: Mutex<GroupInner<M>>,
}

#[derive(Debug)]
struct GroupInner<M> {
    now: Now,
    entries: BTreeMap<String, (Arc<M>, Vec<KeyValue>)>,
}

impl<M> Default for Group<M> {
    fn default() -> Self {
        Self { inner: Mutex::new(GroupInner { now: Now::default(), entries: BTreeMap::new() }) }
    }
}

impl<M: Measured> Group<M> {
    fn lock(&self) -> MutexGuard<'_, GroupInner<M>> {
        // Nothing in here can be left half done by a panic elsewhere.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn insert(&self, key: String, measured: Arc<M>, attributes: Vec<KeyValue>) {
        self.lock().entries.insert(key, (measured, attributes));
    }

    /// Removes the entry if it is still this one: a later deployment may have taken its place.
    pub(super) fn remove(&self, key: &str, measured: &Arc<M>) {
        let mut inner = self.lock();
        if inner.entries.get(key).is_some_and(|(present, _)| Arc::ptr_eq(present, measured)) {
            inner.entries.remove(key);
        }
    }

    pub(super) fn sample(&self, now: Now) {
        let mut inner = self.lock();
        inner.now = now;
        inner.entries.values().for_each(|(measured, _)| measured.sample(now));
    }

    pub(super) fn values(&self, key: &str) -> Option<BTreeMap<String, String>> {
        let inner = self.lock();
        let (measured, _) = inner.entries.get(key)?;
        Some(values::<M>(&measured.reading(inner.now)))
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<M>> {
        self.lock().entries.get(key).map(|(measured, _)| measured.clone())
    }

    /// The keys that begin so, in order.
    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        self.lock().entries.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    fn observe(&self, mut observe: impl FnMut(&M::Reading, &[KeyValue])) {
        let inner = self.lock();
        for (measured, attributes) in inner.entries.values() {
            observe(&measured.reading(inner.now), attributes);
        }
    }

    /// Registers every metric of the kind once; entries come and go without touching the meter, because OpenTelemetry
    /// does not forget callbacks.
    pub(super) fn register(self: &Arc<Self>, meter: &Meter) {
        for metric in M::INSTRUMENTS {
            let group = self.clone();
            match metric.read {
                Read::Counter(read) => {
                    meter
                        .u64_observable_counter(metric.name)
                        .with_unit(metric.unit)
                        .with_description(metric.description)
                        .with_callback(move |observer| {
                            group.observe(|reading, attributes| observer.observe(read(reading), attributes));
                        })
                        .build();
                }
                Read::Gauge(read) => {
                    meter
                        .i64_observable_gauge(metric.name)
                        .with_unit(metric.unit)
                        .with_description(metric.description)
                        .with_callback(move |observer| {
                            group.observe(|reading, attributes| {
                                if let Some(value) = read(reading) {
                                    observer.observe(value, attributes);
                                }
                            });
                        })
                        .build();
                }
                Read::Rate(read) => {
                    meter
                        .f64_observable_gauge(metric.name)
                        .with_unit(metric.unit)
                        .with_description(metric.description)
                        .with_callback(move |observer| {
                            group.observe(|reading, attributes| observer.observe(read(reading), attributes));
                        })
                        .build();
                }
                Read::Flag(read) => {
                    meter
                        .i64_observable_gauge(metric.name)
                        .with_unit(metric.unit)
                        .with_description(metric.description)
                        .with_callback(move |observer| {
                            group.observe(|reading, attributes| {
                                observer.observe(i64::from(read(reading)), attributes);
                            });
                        })
                        .build();
                }
            }
        }
    }
}
