//! A whole cluster with a job, through crashes, partitions and stalls: the real actors of `millstream node` over real links,
//! with simulated adapters to the world.
//!
//! | question | file |
//! |---|---|
//! | what a seed decides | [`plan`] |
//! | how a plan that fails is made small | [`minimise`] |
//! | how a run is driven, and what must hold in its end | [`run`](mod@run) |
//! | how a host is put together; adapters are chosen here | [`host`] |
//! | the job: its source, its graph, how nodes make it | [`job`] |
//! | where its output goes, and what must hold of every commit | [`output`] |
//! | the checkpoint store, and what must hold of every record | [`store`] |
//! | what was found wrong, and whether the job has ended | [`findings`] |

pub mod findings;
pub mod host;
pub mod job;
pub mod minimise;
pub mod output;
pub mod plan;
pub mod run;
pub mod store;

pub use plan::Plan;
pub use run::run;
