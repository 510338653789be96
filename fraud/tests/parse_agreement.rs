//! The fast and the strict way of reading a line agree exactly, on well-formed lines and on every kind of damage.
#![allow(clippy::unwrap_used)]

use millstream_fraud::{
    parse::{is_blank, parse_amount, parse_strictly, parse_transaction},
    transaction::Transaction,
};
use proptest::prelude::*;

const LINE: &str = "{\"transaction_id\":1,\"user_id\":42,\"time\":\"2026-01-01T00:00:00.000Z\",\"amount\":\"9.99\",\
    \"merchant\":\"m17\",\"city\":\"Lisbon\",\"latitude\":38.7223,\"longitude\":-9.1393}";

fn agree(line: &[u8]) -> Result<Transaction, String> {
    let fast = parse_transaction(line).map_err(|error| error.detail);
    let strict = parse_strictly(line).map_err(|error| error.detail);
    let shown = String::from_utf8_lossy(line);
    assert_eq!(fast, strict, "{shown}");
    if let (Ok(fast), Ok(strict)) = (&fast, &strict) {
        assert_eq!(fast.latitude.to_bits(), strict.latitude.to_bits(), "{shown}");
        assert_eq!(fast.longitude.to_bits(), strict.longitude.to_bits(), "{shown}");
    }
    fast
}

#[test]
fn the_example_of_the_contract_is_read() {
    let transaction = agree(LINE.as_bytes()).unwrap();
    assert_eq!(
        transaction,
        Transaction {
            transaction_id: 1,
            user_id: 42,
            time: 1_767_225_600_000,
            amount_cents: 999,
            merchant: "m17".into(),
            city: "Lisbon".into(),
            latitude: 38.7223,
            longitude: -9.1393,
        }
    );
}

#[test]
fn unusual_but_well_formed_lines_are_read() {
    for (old, new) in [
        ("{", " \t{ "),
        ("}", " }\r"),
        ("\":", "\" : "),
        ("{", "{\"extra\":{\"a\":[1,-2.5e+3,null,true,\"\\u00e9\\n\"]},"),
        ("\"m17\"", "\"\\u006d\\\"\\\\\\/\\ud83d\\ude00é\""),
        ("\"m17\"", "\"\""),
        ("\"time\"", "\"\\u0074ime\""),
        ("000Z", "000\\u005a"),
        ("38.7223", "90"),
        ("38.7223", "-90.0"),
        ("38.7223", "9e1"),
        ("38.7223", "1E-400"),
        ("38.7223", "0"),
        ("38.7223", "-0"),
        ("38.7223", "38.722300000000000000000000000000000000001"),
        ("-9.1393", "180"),
        (":1,", ":18446744073709551615,"),
        (":1,", ":0,"),
        ("9.99", "000000000009"),
        ("9.99", "999999999999.9"),
        // Of equal keys the last counts, and the earlier one may be anything.
        ("{", "{\"city\":7,"),
        ("{", "{\"transaction_id\":99,"),
    ] {
        let line = LINE.replace(old, new);
        let transaction = agree(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(transaction.user_id, 42);
    }
    assert_eq!(agree(LINE.replace("9.99", "7").as_bytes()).unwrap().amount_cents, 700);
    assert_eq!(agree(LINE.replace("9.99", "7.5").as_bytes()).unwrap().amount_cents, 750);
    assert_eq!(agree(LINE.replace("{", "{\"transaction_id\":99,").as_bytes()).unwrap().transaction_id, 1);
}

#[test]
fn everything_else_is_malformed_and_says_why() {
    for (old, new, word) in [
        (":1,", ":1.0,", "transaction_id"),
        (":1,", ":1e3,", "transaction_id"),
        (":1,", ":-1,", "transaction_id"),
        (":1,", ":-0,", "transaction_id"),
        (":1,", ":01,", "JSON"),
        (":1,", ":18446744073709551616,", "transaction_id"),
        (":42", ":\"42\"", "user_id"),
        (":42", ":null", "user_id"),
        ("\"user_id\":42,", "", "user_id is missing"),
        ("00:00:00.000Z", "00:00:00Z", "time"),
        ("2026-01-01", "2026-02-29", "time"),
        ("\"9.99\"", "9.99", "amount"),
        ("9.99", "", "amount"),
        ("9.99", ".99", "amount"),
        ("9.99", "9.", "amount"),
        ("9.99", "9.999", "amount"),
        ("9.99", "+9.99", "amount"),
        ("9.99", " 9.99", "amount"),
        ("9.99", "1234567890123", "amount"),
        ("9.99", "٣.99", "amount"),
        ("\"m17\"", "17", "merchant"),
        ("\"m17\"", "\"\\ud800\"", "JSON"),
        ("\"m17\"", "\"\\x\"", "JSON"),
        ("m17", "m\u{1}17", "JSON"),
        ("\"Lisbon\"", "[\"Lisbon\"]", "city"),
        ("38.7223", "90.00001", "latitude"),
        ("38.7223", "\"38\"", "latitude"),
        ("38.7223", "038", "JSON"),
        ("38.7223", "38.", "JSON"),
        ("38.7223", ".5", "JSON"),
        ("38.7223", "+38", "JSON"),
        ("38.7223", "NaN", "JSON"),
        ("38.7223", "1e999", "JSON"),
        ("-9.1393", "-180.1", "longitude"),
        ("-9.1393", "99999999999999999999999999", "longitude"),
        ("}", "", "JSON"),
        ("}", "}}", "JSON"),
        ("}", ",}", "JSON"),
        ("{", "{\"a\":01,", "JSON"),
        ("{", "{\"a\":'x',", "JSON"),
        ("{", "[{", "JSON"),
        ("{", "\u{feff}{", "JSON"),
    ] {
        let line = LINE.replace(old, new);
        let detail = agree(line.as_bytes()).expect_err(&line);
        assert!(detail.contains(word), "{line}: {detail}");
    }
    for (line, word) in [("", "JSON"), ("[]", "array"), ("null", "null"), ("7", "7"), ("\"x\"", "\"x\"")] {
        assert!(agree(line.as_bytes()).unwrap_err().contains(word), "{line}");
    }
    let deep = format!("{{\"a\":{}{},{}", "[".repeat(200), "]".repeat(200), &LINE[1..]);
    assert!(agree(deep.as_bytes()).is_err());
    let mut invalid = LINE.replace("m17", "mXX").into_bytes();
    let at = invalid.iter().position(|byte| *byte == b'X').unwrap();
    invalid[at] = 0xff;
    assert!(agree(&invalid).unwrap_err().contains("invalid UTF-8 at byte"));
}

#[test]
fn both_ways_agree_on_every_byte_at_every_place() {
    for at in 0..LINE.len() {
        for byte in 0..=u8::MAX {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            let _ = agree(&line);
        }
    }
}

#[test]
fn blank_is_json_white_space_only() {
    assert!(is_blank(b"") && is_blank(b" \t\r"));
    assert!(!is_blank(b" \x0c") && !is_blank(b" x") && !is_blank("\u{a0}".as_bytes()));
}

fn transaction_line() -> impl Strategy<Value = String> {
    let fields = (any::<u64>(), any::<u64>(), 0_i64..4_000_000_000_000, "[0-9]{1,13}(\\.[0-9]{0,3})?");
    let texts = ("[ -~äß€]{0,30}", "[A-Za-zéü ]{0,12}");
    let numbers = (number(), number());
    (fields, texts, numbers, any::<bool>(), 0_usize..8).prop_map(
        |((id, user, time, amount), (merchant, city), (latitude, longitude), spaced, turn)| {
            let time = millstream_fraud::time_format::time_text(time);
            let mut fields = [
                ("transaction_id", id.to_string()),
                ("user_id", user.to_string()),
                ("time", format!("\"{time}\"")),
                ("amount", format!("\"{amount}\"")),
                ("merchant", serde_json::to_string(&merchant).unwrap()),
                ("city", serde_json::to_string(&city).unwrap()),
                ("latitude", latitude),
                ("longitude", longitude),
            ];
            fields.rotate_left(turn);
            let space = if spaced { " " } else { "" };
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{space}{value}")).collect();
            format!("{{{}}}", fields.join(&format!(",{space}")))
        },
    )
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?[0-9]{1,3}(\\.[0-9]{1,22})?",
        "-?[0-9]{1,2}\\.[0-9]{3,17}",
        (-200.0_f64..200.0).prop_map(|degrees| format!("{degrees:?}")),
        "-?[0-9]{1,2}(\\.[0-9]{1,5})?[eE][+-]?[0-9]{1,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn both_ways_agree_on_lines_of_any_values(line in transaction_line()) {
        let _ = agree(line.as_bytes());
    }

    #[test]
    fn both_ways_agree_on_damaged_lines(
        line in transaction_line(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, any::<u8>()), 1..4),
    ) {
        let mut line = line.into_bytes();
        for (at, how, byte) in damage {
            if line.is_empty() {
                break;
            }
            let at = at.index(line.len());
            let structural = b"\"\\{}[]:,.0123456789-+eE \t\r\n/u";
            match how {
                0 => line[at] = byte,
                1 => line[at] = structural[usize::from(byte) % structural.len()],
                2 => line.insert(at, structural[usize::from(byte) % structural.len()]),
                _ => { line.remove(at); }
            }
        }
        let _ = agree(&line);
    }

    #[test]
    fn coordinates_are_the_nearest_f64(text in "-?[1-8]?[0-9]\\.[0-9]{1,20}") {
        let transaction = agree(LINE.replace("38.7223", &text).as_bytes()).unwrap();
        prop_assert_eq!(transaction.latitude.to_bits(), text.parse::<f64>().unwrap().to_bits());
    }

    #[test]
    fn amounts_are_exact_cents(whole in 0_u64..1_000_000_000_000, cents in 0_u64..100) {
        prop_assert_eq!(parse_amount(format!("{whole}.{cents:02}").as_bytes()), Some(whole * 100 + cents));
    }
}
