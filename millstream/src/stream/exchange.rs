//! The sending side of each edge: a monomorphic exchange per record type and strategy, behind the graph's untyped
//! factory.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use millstream_runtime::batch::{Batch, Data, Rows};
use millstream_runtime::chain::Downstream;
use millstream_runtime::exchange::partitioner::{Broadcast, ByKey, Custom, RoundRobin, Shuffle, Single};
use millstream_runtime::exchange::{Exchange, Outlet};
use millstream_runtime::graph::stream::{ExchangeFactory, ExchangePlace, ShipStrategy};
use millstream_runtime::key::Key;
use millstream_runtime::key_group::{KeyGroup, RoutingTable};
use millstream_runtime::ports::transport::{DecodeBatch, decoder};

/// Strategies that do not look at rows.
struct Unkeyed<T>(PhantomData<fn(T)>);

/// The factory of every strategy but `Hash` and `Custom`.
pub(super) fn unkeyed<T: Data>() -> Arc<dyn ExchangeFactory> {
    Arc::new(Unkeyed::<T>(PhantomData))
}

impl<T: Data> ExchangeFactory for Unkeyed<T> {
    fn decoder(&self) -> DecodeBatch {
        decoder::<T>()
    }

    fn of_groups(&self, batch: Box<dyn Batch>, _groups: &Range<u16>, _max_parallelism: u16) -> Option<Box<dyn Batch>> {
        Some(batch)
    }

    fn build(&self, outlets: Vec<Outlet>, place: &ExchangePlace) -> Box<dyn Any> {
        let (channels, limit) = (outlets.len(), place.limit);
        let exchange: Downstream<T> = match place.strategy {
            // A forward edge has one outlet, and `global` means the first of all.
            ShipStrategy::Forward | ShipStrategy::Global => Box::new(Exchange::new(outlets, Single(0), limit)),
            ShipStrategy::Broadcast => Box::new(Exchange::new(outlets, Broadcast::new(channels), limit)),
            ShipStrategy::Rescale => {
                let local = RoundRobin::new(local_channels(place), 0);
                Box::new(Exchange::new(outlets, local, limit))
            }
            ShipStrategy::Rebalance => {
                let all = RoundRobin::new(0..channels, place.subtask as usize);
                Box::new(Exchange::new(outlets, all, limit))
            }
            ShipStrategy::Shuffle => {
                let any = Shuffle::new(channels, u64::from(place.subtask) + 1);
                Box::new(Exchange::new(outlets, any, limit))
            }
            ShipStrategy::Hash | ShipStrategy::Custom => {
                unreachable!("edges by key or function are recorded with a factory of their own")
            }
        };
        Box::new(exchange)
    }
}

/// The receivers that a sender of `rescale` takes turns over: no two senders share one if there are more receivers
/// than senders, and every receiver has a sender otherwise.
fn local_channels(place: &ExchangePlace) -> Range<usize> {
    let (subtask, senders) = (place.subtask as usize, place.parallelism as usize);
    let receivers = place.receiver_parallelism as usize;
    let start = subtask * receivers / senders;
    let end = (subtask + 1) * receivers / senders;
    start..end.max(start + 1)
}

/// Takes the rows of some key groups out of a batch.
type OfGroups<T> = Box<dyn Fn(Rows<T>, &Range<u16>, u16) -> Rows<T> + Send + Sync>;

/// Strategies with a function of the user.
struct WithFunction<T, B> {
    build: B,
    of_groups: Option<OfGroups<T>>,
    record: PhantomData<fn(T)>,
}

impl<T: Data, B> ExchangeFactory for WithFunction<T, B>
where
    B: Fn(Vec<Outlet>, &ExchangePlace) -> Downstream<T> + Send + Sync,
{
    fn decoder(&self) -> DecodeBatch {
        decoder::<T>()
    }

    fn of_groups(&self, batch: Box<dyn Batch>, groups: &Range<u16>, max_parallelism: u16) -> Option<Box<dyn Batch>> {
        let Some(of_groups) = &self.of_groups else { return Some(batch) };
        let rows = of_groups(batch.into_rows::<T>(), groups, max_parallelism);
        (!rows.is_empty()).then(|| Box::new(rows) as Box<dyn Batch>)
    }

    fn build(&self, outlets: Vec<Outlet>, place: &ExchangePlace) -> Box<dyn Any> {
        Box::new((self.build)(outlets, place))
    }
}

fn with_function<T, B>(build: B, of_groups: Option<OfGroups<T>>) -> Arc<dyn ExchangeFactory>
where
    T: Data,
    B: Fn(Vec<Outlet>, &ExchangePlace) -> Downstream<T> + Send + Sync + 'static,
{
    Arc::new(WithFunction { build, of_groups, record: PhantomData })
}

/// By key group.
pub(super) fn by_key<T: Data, K: Key, S>(selector: S) -> Arc<dyn ExchangeFactory>
where
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    let of_row = selector.clone();
    let of_groups: OfGroups<T> = Box::new(move |rows, groups, max_parallelism| {
        let mut mine = Rows::default();
        let mut timestamps = rows.timestamps.into_iter();
        for row in rows.values {
            let timestamp = timestamps.next();
            if groups.contains(&KeyGroup::of(of_row(&row).key_hash(), max_parallelism).0) {
                mine.push(row, timestamp);
            }
        }
        mine
    });
    let build = move |outlets: Vec<Outlet>, place: &ExchangePlace| -> Downstream<T> {
        let table = RoutingTable::contiguous(place.receiver_max_parallelism, place.receiver_parallelism);
        Box::new(Exchange::new(outlets, ByKey::new(selector.clone(), table), place.limit))
    };
    with_function(build, Some(of_groups))
}

/// By a function from row and number of channels to channel.
pub(super) fn custom<T: Data, F>(choose: F) -> Arc<dyn ExchangeFactory>
where
    F: Fn(&T, usize) -> usize + Clone + Send + Sync + 'static,
{
    let build = move |outlets: Vec<Outlet>, place: &ExchangePlace| -> Downstream<T> {
        let channels = outlets.len();
        Box::new(Exchange::new(outlets, Custom::new(choose.clone(), channels), place.limit))
    };
    with_function(build, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_runtime::batch::BatchLimit;

    #[test]
    fn rescale_reaches_every_receiver_and_stays_local() {
        for (senders, receivers) in [(1, 4), (2, 4), (2, 5), (4, 2), (3, 2), (5, 5)] {
            let mut reached = vec![0; receivers];
            for subtask in 0..senders {
                let place = ExchangePlace {
                    strategy: ShipStrategy::Rescale,
                    subtask,
                    parallelism: senders,
                    receiver_parallelism: u32::try_from(receivers).expect("small"),
                    receiver_max_parallelism: 128,
                    limit: BatchLimit::default(),
                };
                local_channels(&place).for_each(|channel| reached[channel] += 1);
            }
            assert!(reached.iter().all(|senders| *senders >= 1), "{senders} to {receivers}: {reached:?}");
            if senders as usize <= receivers {
                assert!(reached.iter().all(|senders| *senders == 1), "{senders} to {receivers}: {reached:?}");
            }
        }
    }
}
