//! Files in a folder: [`source`] reads their lines, [`sink`] writes rows as lines exactly once.

pub(crate) mod durable;
pub mod sink;
pub mod source;
