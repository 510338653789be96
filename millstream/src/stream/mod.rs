//! The typed DataStream API: records the calls of a program as a stream graph. Flink's names; `docs` of each method say
//! where it differs.
//!
//! | question | module |
//! |---|---|
//! | where a job begins, and what it was given | [`environment`], [`parameters`] |
//! | what a stream without keys can do | [`data_stream`] |
//! | streams by key, windows, a broadcast input | [`keyed_stream`], [`windowed_stream`], [`connected_stream`] |
//! | what is set on one operator | [`operator`] |
//! | how typed code becomes the untyped factories of the graph | `factory`, `exchange`, `source`, `recorder` |

pub mod connected_stream;
pub mod data_stream;
pub mod environment;
mod exchange;
mod factory;
pub mod keyed_stream;
pub mod operator;
pub mod parameters;
mod recorder;
mod source;
pub mod windowed_stream;

pub use connected_stream::{BroadcastStream, ConnectedStream};
pub use data_stream::DataStream;
pub use environment::Environment;
pub use keyed_stream::KeyedStream;
pub use operator::Operator;
pub use parameters::Parameters;
pub use windowed_stream::WindowedStream;

pub(crate) use factory::InputFactory;
pub(crate) use recorder::{NewNode, Recorder};
