//! Rolling aggregates on a keyed stream: a value for every record, over restarts as well.

use super::*;
use crate::harness::{Collected, Harness, TestInput};

/// Key, amount, number of the record.
type Record = (u8, i32, u32);

struct Rolling {
    input: TestInput<Record>,
    reduced: Collected<Record>,
    sum: Collected<Record>,
    min: Collected<Record>,
    max: Collected<Record>,
    min_by: Collected<Record>,
    max_by: Collected<Record>,
}

impl Rolling {
    fn new(env: &Environment) -> Self {
        let (input, records) = TestInput::<Record>::new(env, "records");
        let keyed = records.key_by(|record| record.0);
        let reduced = keyed.reduce(|kept, record| *kept = (kept.0, kept.1 - record.1, record.2)).uid("reduced");
        Self {
            input,
            reduced: Collected::from(&reduced),
            sum: Collected::from(&keyed.sum(|record| &mut record.1).uid("sum")),
            min: Collected::from(&keyed.min(|record| &mut record.1).uid("min")),
            max: Collected::from(&keyed.max(|record| &mut record.1).uid("max")),
            min_by: Collected::from(&keyed.min_by(|record| record.1).uid("min-by")),
            max_by: Collected::from(&keyed.max_by(|record| record.1).uid("max-by")),
        }
    }

    fn outputs(&self) -> [&Collected<Record>; 6] {
        [&self.reduced, &self.sum, &self.min, &self.max, &self.min_by, &self.max_by]
    }
}

#[test]
fn every_record_gives_the_rolling_value_of_its_key() {
    let first = [(1, 5, 0), (2, 7, 1), (1, 3, 2), (1, 9, 3), (2, 7, 4)];
    let second = [(1, 3, 5), (2, -1, 6)];
    let expected: [&[Record]; 6] = [
        &[(1, 5, 0), (2, 7, 1), (1, 2, 2), (1, -7, 3), (2, 0, 4), (1, -10, 5), (2, 1, 6)],
        &[(1, 5, 0), (2, 7, 1), (1, 8, 0), (1, 17, 0), (2, 14, 1), (1, 20, 0), (2, 13, 1)],
        &[(1, 5, 0), (2, 7, 1), (1, 3, 0), (1, 3, 0), (2, 7, 1), (1, 3, 0), (2, -1, 1)],
        &[(1, 5, 0), (2, 7, 1), (1, 5, 0), (1, 9, 0), (2, 7, 1), (1, 9, 0), (2, 7, 1)],
        &[(1, 5, 0), (2, 7, 1), (1, 3, 2), (1, 3, 2), (2, 7, 1), (1, 3, 2), (2, -1, 6)],
        &[(1, 5, 0), (2, 7, 1), (1, 5, 0), (1, 9, 3), (2, 7, 1), (1, 9, 3), (2, 7, 1)],
    ];
    let env = environment(1);
    let rolling = Rolling::new(&env);
    let mut harness = Harness::new(&env).unwrap();
    first.into_iter().for_each(|record| rolling.input.push(record));
    harness.run().unwrap();
    let snapshot = harness.checkpoint().unwrap();
    let before: Vec<_> = rolling.outputs().into_iter().map(Collected::take).collect();

    let env = environment(1);
    let rolling = Rolling::new(&env);
    let mut harness = Harness::restore(&env, HarnessOptions::default(), &snapshot).unwrap();
    second.into_iter().for_each(|record| rolling.input.push(record));
    harness.run().unwrap();
    for ((before, after), expected) in before.into_iter().zip(rolling.outputs()).zip(expected) {
        assert_eq!([before, after.take()].concat(), expected);
    }
}
