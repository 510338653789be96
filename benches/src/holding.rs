//! A job with much keyed state, which the benchmark `recovery` loses and restores: a row of a thousand bytes for each key,
//! all made at the beginning, then updated at random.

use millstream::prelude::*;

use crate::beats::Speaker;

/// Bytes of the state of one key.
pub const ROW_BYTES: u64 = 1_000;
/// Keys whose rows one of the first numbers makes.
const MADE_AT_ONCE: u64 = 100;

/// The job; its parameters are `port`, where it says that records flow, and `keys`.
///
/// # Errors
/// When a parameter is missing.
pub fn holding(env: &Environment) -> millstream::Result<()> {
    let number = |name: &str| -> millstream::Result<u64> {
        env.parameters().required(name)?.parse().map_err(|_| millstream::Error::usage(format!("--{name} N")))
    };
    let keys = number("keys")?;
    let port = u16::try_from(number("port")?).map_err(|_| millstream::Error::usage("--port N"))?;
    // One split, so that the first numbers come first.
    env.from_source("numbers", DataGeneratorSource::unbounded(|n| n).splits(1))
        .uid("numbers")
        .flat_map(move |n, out| match n < keys / MADE_AT_ONCE {
            true => out.extend(n * MADE_AT_ONCE..(n + 1) * MADE_AT_ONCE),
            // Any order that meets all keys alike.
            false => out.push((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % keys),
        })
        .key_by(|key| *key)
        .process(Rows { speaker: Speaker::new(port), row: ValueState::new("row"), made: 0 })
        .uid("rows")
        .discard()
        .uid("out");
    Ok(())
}

#[derive(Clone)]
struct Rows {
    speaker: Speaker,
    row: ValueState<u64, (u64, String)>,
    /// Rows that this subtask has made since it started.
    made: u64,
}

impl KeyedProcessFunction for Rows {
    type Key = u64;
    type In = u64;
    type Out = u64;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.row);
    }

    fn process(&mut self, _key: u64, cx: &mut KeyedContext<'_, u64, u64>) -> Result<(), PortError> {
        let made = &mut self.made;
        let row = self.row.get_or_insert_with(cx, || {
            *made += 1;
            (0, "x".repeat(ROW_BYTES as usize))
        });
        row.0 += 1;
        self.speaker.record(self.made);
        Ok(())
    }
}
