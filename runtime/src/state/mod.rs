//! State of operators: typed tables on the hot path, and the cuts that checkpoints are made of.
//!
//! - [`cut`]: what one barrier took from one subtask; [`entries`]: the entries in it, encoded
//! - [`schema`]: what a program declares, and what becomes of state that is stored otherwise: [`conversion`]
//! - [`table`], [`map_table`]: the working set of one keyed state
//! - [`memory`]: what all of them may hold in memory; [`pressure`]: what a subtask does when that is too little
//! - [`keyed`], [`operator`], [`timers`]: states as functions hold them

mod clock;
pub mod conversion;
pub mod cut;
mod encoding;
pub mod entries;
mod heap;
pub mod keyed;
pub mod map_table;
pub mod memory;
pub mod operator;
pub mod pressure;
pub mod schema;
pub mod table;
pub mod timers;
mod tombstones;
mod versions;

#[cfg(test)]
mod eviction_tests;
