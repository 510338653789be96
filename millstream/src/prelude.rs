//! Everything a job needs, for `use millstream::prelude::*`.

pub use millstream_connectors::blackhole::BlackholeSink;
pub use millstream_connectors::collection::{from_collection, from_collection_with_splits, from_sequence};
pub use millstream_connectors::file::sink::FileSink;
pub use millstream_connectors::file::source::{BadLines, FileSource, JsonLines, Line, LineFormat};
pub use millstream_connectors::generator::DataGeneratorSource;
pub use millstream_connectors::print::PrintSink;
pub use millstream_connectors::rate_limit::RateLimited;
pub use millstream_runtime::batch::{Data, Rows};
pub use millstream_runtime::chain::context::TaskInfo;
pub use millstream_runtime::chain::keyed::function::StateVisitor;
pub use millstream_runtime::chain::keyed::{KeyedBroadcastFunction, KeyedContext, KeyedProcessFunction};
pub use millstream_runtime::chain::output::OutputTag;
pub use millstream_runtime::chain::process::{ProcessContext, ProcessFunction};
pub use millstream_runtime::chain::timestamps::Watermarks;
pub use millstream_runtime::chain::window::{Aggregate, Tumbling, Window};
pub use millstream_runtime::key::Key;
pub use millstream_runtime::ports::PortError;
pub use millstream_runtime::ports::sink::TwoPhaseCommitSink;
pub use millstream_runtime::ports::source::Source;
pub use millstream_runtime::state::keyed::ttl::{
    StateTtl, StateVisibility, TtlAggregatingState, TtlListState, TtlMapState, TtlReducingState, TtlTime,
    TtlValueState, UpdateType,
};
pub use millstream_runtime::state::keyed::{
    AggregateFunction, AggregatingState, ListState, MapState, ReducingState, ValueState,
};
pub use millstream_runtime::state::operator::{BroadcastState, OperatorListState, OperatorStateSlot};
pub use millstream_runtime::time::{
    MAX_TIMESTAMP, MIN_TIMESTAMP, Span, Timestamp, hours, milliseconds, minutes, seconds,
};

pub use crate::jobs::Job;
pub use crate::stream::{
    BroadcastStream, ConnectedStream, DataStream, Environment, KeyedStream, Operator, Parameters, WindowedStream,
};
