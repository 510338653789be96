//! Measures reading of transactions: `cargo run --release -p millstream-fraud --example parse_speed`.
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{fs, time::Instant};

use millstream_fraud::{
    generate::{Options, generate},
    parse::{parse_strictly, parse_transaction},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let output = std::env::temp_dir().join(format!("millstream-parse-speed-{}", std::process::id()));
    let started = Instant::now();
    let report = generate(&Options::default(), &output, &mut |_| {})?;
    println!("generate: {report:?} in {:?}", started.elapsed());
    let mut content = Vec::new();
    for entry in fs::read_dir(&output)? {
        content.extend(fs::read(entry?.path())?);
    }
    fs::remove_dir_all(&output)?;
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    for round in 0..5 {
        let started = Instant::now();
        let mut cents = 0;
        let mut malformed = 0;
        for line in &lines {
            match parse_transaction(line) {
                Ok(transaction) => cents += transaction.amount_cents,
                Err(_) => malformed += 1,
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let rate = lines.len() as f64 / seconds / 1e6;
        println!("round {round}: {rate:.2} M lines/s ({cents} cents, {malformed} malformed)");
    }
    let started = Instant::now();
    let accepted = lines.iter().filter(|line| parse_strictly(line).is_ok()).count();
    let rate = lines.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
    println!("strict path alone: {rate:.2} M lines/s ({accepted} accepted)");
    Ok(())
}
