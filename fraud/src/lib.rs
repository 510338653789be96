//! The domain of the fraud-detection job: pure functions and values, without the engine. The contract they follow is
//! `docs/fraud-detection.md`.
//!
//! | question | module |
//! |---|---|
//! | what a transaction is, and which lines are one | [`transaction`], [`parse`], [`time_format`] |
//! | which numbers and blocked users hold at a time | [`rules`] |
//! | which alerts a user's transactions give | [`judge`] |
//! | what is written | [`alert`], [`dead_letter`], [`summary`], [`block_list`] |
//! | where sample data comes from | [`generate`] |
//!
//! ```
//! use millstream_fraud::{judge::UserState, parse::parse_transaction, rules::RuleBook};
//!
//! let line = br#"{"transaction_id":1,"user_id":42,"time":"2026-01-01T00:00:00.000Z","amount":"9.99",
//!     "merchant":"m17","city":"Lisbon","latitude":38.7223,"longitude":-9.1393}"#;
//! let transaction = parse_transaction(line).expect("well-formed");
//! let mut user = UserState::new(transaction.user_id);
//! user.accept(&transaction);
//! let mut alerts = Vec::new();
//! user.judge_until(transaction.time, &RuleBook::default(), &mut alerts);
//! assert!(alerts.is_empty());
//! ```
#![deny(missing_docs)]

pub mod alert;
pub mod block_list;
pub mod dead_letter;
pub mod generate;
pub mod judge;
pub mod parse;
pub mod rules;
pub mod summary;
pub mod time_format;
pub mod transaction;

mod json_text;
