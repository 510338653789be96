//! A card transaction as the job holds it. Read by [`crate::parse`], judged by [`crate::judge`].

use compact_str::CompactString;
use millstream_runtime::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One accepted card transaction, every field decoded and validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    /// Unique over the whole input.
    pub transaction_id: u64,
    /// Whose card it is; the key of the job.
    pub user_id: u64,
    /// Event time in milliseconds since the epoch.
    pub time: Timestamp,
    /// The amount in cents, exact.
    pub amount_cents: u64,
    /// Name of the shop.
    pub merchant: CompactString,
    /// Name of the city.
    pub city: CompactString,
    /// Degrees north, within -90..=90.
    pub latitude: f64,
    /// Degrees east, within -180..=180.
    pub longitude: f64,
}
