//! Sessions: the clicks of a user with less than two seconds between one and the next. Clicks come out of order, so each is
//! held back until event time has passed it; a session is told when a timer finds that nothing has followed. State and
//! timers are the function's own.
//!
//!     cargo run --release -p user-sessions -- run user-sessions -- --clicks 100000
//!
//! They are written to the folder `--output`; `--output -` prints them.

use millstream::prelude::*;

/// Milliseconds without a click after which a session is over.
const GAP_MS: Timestamp = 2_000;
/// Milliseconds by which clicks come out of order.
const DISORDER_MS: Timestamp = 1_500;

/// A click.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Click {
    user: u64,
    time: Timestamp,
}

/// The clicks of a user without a gap between them.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Session {
    user: u64,
    start: Timestamp,
    end: Timestamp,
    clicks: u64,
}

/// 97 users, a click every 20 ms: each user's come about two seconds apart.
fn click(index: u64) -> Click {
    let mixed = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    Click { user: mixed % 97, time: index as Timestamp * 20 + ((mixed >> 8) as Timestamp) % DISORDER_MS }
}

/// Holds clicks back until the watermark has passed them, and puts them together in order of event time.
#[derive(Clone)]
struct Sessions {
    /// Clicks of a user at a time that are still to be taken in.
    held: MapState<u64, Timestamp, u64>,
    open: ValueState<u64, Session>,
}

impl KeyedProcessFunction for Sessions {
    type Key = u64;
    type In = Click;
    type Out = Session;

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.held);
        visit(&mut self.open);
    }

    fn process(&mut self, click: Click, cx: &mut KeyedContext<'_, u64, Session>) -> Result<(), PortError> {
        *self.held.get_or_insert_with(cx, click.time, || 0) += 1;
        cx.register_event_time_timer(click.time);
        Ok(())
    }

    fn on_timer(&mut self, time: Timestamp, cx: &mut KeyedContext<'_, u64, Session>) -> Result<(), PortError> {
        if self.open.get(cx).is_some_and(|session| session.end + GAP_MS <= time)
            && let Some(session) = self.open.clear(cx)
        {
            cx.emit_at(session, time);
        }
        let Some(clicks) = self.held.remove(cx, &time) else { return Ok(()) };
        let user = *cx.key();
        let session = self.open.get_or_insert_with(cx, || Session { user, start: time, end: time, clicks: 0 });
        session.end = time;
        session.clicks += clicks;
        cx.register_event_time_timer(time + GAP_MS);
        Ok(())
    }
}

/// The pipeline behind the source.
fn sessions(clicks: &DataStream<Click>) -> DataStream<Session> {
    let function = Sessions { held: MapState::new("held"), open: ValueState::new("open") };
    clicks
        .assign_watermarks(Watermarks::bounded_out_of_orderness(milliseconds(DISORDER_MS)), |click| click.time)
        .key_by(|click| click.user)
        .process(function)
        .uid("sessions")
}

fn user_sessions(env: &Environment) -> millstream::Result<()> {
    let parameters = env.parameters();
    parameters.allow_only(&["clicks", "output"])?;
    let count = parameters.parsed("clicks")?.unwrap_or(100_000);
    let output = parameters.get("output")?.unwrap_or("out/user-sessions").to_string();
    let clicks = env.from_source("clicks", DataGeneratorSource::new(click, count).splits(1)).uid("clicks");
    let sessions = sessions(&clicks);
    let sink = match output.as_str() {
        "-" => sessions.print(),
        folder => sessions.sink_to("sessions", FileSink::json_lines(folder)),
    };
    sink.uid("out");
    Ok(())
}

fn main() -> millstream::Result<()> {
    millstream::main(millstream::jobs![user_sessions])
}

#[cfg(test)]
mod tests {
    use millstream::harness::{Collected, Harness, TestInput};

    use super::*;

    #[test]
    fn a_gap_of_two_seconds_ends_a_session_whatever_the_order_of_the_clicks() {
        let env = Environment::new("user-sessions", 2, Parameters::default());
        let (input, clicks) = TestInput::<Click>::new(&env, "clicks");
        let found = Collected::from(&sessions(&clicks));
        let mut harness = Harness::new(&env).expect("a job");
        for time in [3_000, 1_000, 2_500, 5_500, 2_500, 4_999, 7_500] {
            input.push(Click { user: 7, time });
        }
        input.end();
        harness.finish().expect("ends");
        let session = |start, end, clicks| Session { user: 7, start, end, clicks };
        assert_eq!(found.take(), [session(1_000, 5_500, 6), session(7_500, 7_500, 1)]);
    }
}
