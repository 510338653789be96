//! Files in a folder: [`source`] reads their lines, [`sink`] writes rows as lines exactly once.

pub mod source;
