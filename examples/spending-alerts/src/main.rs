//! A job of one's own: users with more than ten transactions in five minutes of event time. The program that contains
//! it is the whole system: `run`, `list`, `savepoint`, `stop` and the REST server come with it.
//!
//!     cargo run --release -p spending-alerts

use millstream::prelude::*;

/// A transaction.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Transaction {
    user_id: u64,
    time: Timestamp,
    amount_cents: u64,
}

/// What a user spent in a window.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct SpendingPattern {
    user_id: u64,
    window_end: Timestamp,
    transactions: u64,
    amount_cents: u64,
}

impl Aggregate for SpendingPattern {
    type In = Transaction;
    type Accumulator = Self;
    type Out = Self;

    fn create(&self) -> Self {
        Self::default()
    }

    fn add(&self, pattern: &mut Self, transaction: Transaction) {
        pattern.user_id = transaction.user_id;
        pattern.transactions += 1;
        pattern.amount_cents += transaction.amount_cents;
    }

    fn result(&self, pattern: Self, window: Window) -> Self {
        Self { window_end: window.end, ..pattern }
    }
}

/// 200,000 transactions, 10 ms apart, of 10,000 users; every 500th belongs to user 7.
fn transaction(index: u64) -> Transaction {
    let user_id = if index.is_multiple_of(500) { 7 } else { index % 10_000 };
    Transaction { user_id, time: index as Timestamp * 10, amount_cents: 100 + index % 900 }
}

/// The pipeline behind the source.
fn patterns(transactions: &DataStream<Transaction>) -> DataStream<SpendingPattern> {
    transactions
        .assign_watermarks(Watermarks::bounded_out_of_orderness(seconds(5)), |t| t.time)
        .key_by(|t| t.user_id)
        .window(Tumbling::event_time(minutes(5)))
        .aggregate(SpendingPattern::default())
        .uid("patterns")
        .filter(|pattern| pattern.transactions > 10)
}

fn spending_alerts(env: &Environment) -> millstream::Result<()> {
    let transactions =
        env.from_source("transactions", DataGeneratorSource::new(transaction, 200_000)).uid("transactions");
    patterns(&transactions).sink_to("alerts", FileSink::json_lines("out/spending-alerts/alerts")).uid("alerts");
    Ok(())
}

fn main() -> millstream::Result<()> {
    millstream::main(millstream::jobs![spending_alerts])
}

#[cfg(test)]
mod tests {
    use millstream::harness::{Collected, Harness, TestInput};

    use super::*;

    #[test]
    fn eleven_transactions_in_a_window_are_a_pattern_and_ten_are_not() {
        let env = Environment::new("spending-alerts", 2, Parameters::default());
        let (input, transactions) = TestInput::<Transaction>::new(&env, "transactions");
        let found = Collected::from(&patterns(&transactions));
        let mut harness = Harness::new(&env).expect("a job");
        for index in 0..21 {
            input.push(Transaction { user_id: index % 2, time: index as Timestamp * 1_000, amount_cents: 100 });
        }
        harness.run().expect("runs");
        assert_eq!(found.take(), [], "the window has not ended");
        input.end();
        harness.finish().expect("ends");
        let expected = SpendingPattern { user_id: 0, window_end: 300_000, transactions: 11, amount_cents: 1_100 };
        assert_eq!(found.take(), [expected]);
    }
}
