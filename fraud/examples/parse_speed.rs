//! Measures reading of transactions in CPU time, which other work on the machine does not disturb:
//! `cargo run --release -p millstream-fraud --example parse_speed`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    fs,
    time::{Duration, Instant},
};

use millstream_fraud::{
    generate::{Options, generate},
    parse::{parse_strictly, parse_transaction},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let output = std::env::temp_dir().join(format!("millstream-parse-speed-{}", std::process::id()));
    let clock = Clock::start();
    let report = generate(&Options::default(), &output, &mut |_| {})?;
    println!("generate: {report:?} in {:.3} s", clock.seconds());
    let mut content = Vec::new();
    for entry in fs::read_dir(&output)? {
        content.extend(fs::read(entry?.path())?);
    }
    fs::remove_dir_all(&output)?;
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for round in 0..5 {
        let clock = Clock::start();
        let mut cents = 0;
        let mut malformed = 0;
        for line in &lines {
            match parse_transaction(line) {
                Ok(transaction) => cents += transaction.amount_cents,
                Err(_) => malformed += 1,
            }
        }
        let seconds = clock.seconds();
        let rate = lines.len() as f64 / seconds / 1e6;
        println!("round {round}: {rate:.2} M lines/s ({cents} cents, {malformed} malformed)");
    }
    let clock = Clock::start();
    let accepted = lines.iter().filter(|line| parse_strictly(line).is_ok()).count();
    let rate = lines.len() as f64 / clock.seconds() / 1e6;
    println!("strict path alone: {rate:.2} M lines/s ({accepted} accepted)");
    Ok(())
}

struct Clock {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    fn seconds(&self) -> f64 {
        cpu_time().zip(self.cpu).map_or(self.wall.elapsed(), |(now, then)| now - then).as_secs_f64()
    }
}

/// What the process has used so far, where the system (Linux) tells.
fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
