//! The table of keys: name, type, default, meaning. The only place where a key is written down; `docs/configuration.md`
//! is made from it. Names are Flink's where Flink has the option.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::choice::{
    CheckpointMode, CheckpointRetention, FailoverKind, HighAvailability, LoadBalanceMode, RestartStrategyKind,
    Scheduler, SchedulerMode,
};
use crate::value::{
    Addresses, Fraction, Labels, Limit, MaxParallelism, MemorySize, Multiplier, Parallelism, ParallelismOverrides,
    PortRange, Retained, Roles, Value,
};

/// A key and the type of its value.
#[derive(Debug)]
pub struct Key<T> {
    /// Name with dots.
    pub name: &'static str,
    /// The default as it would be written in a file; empty for "not set".
    pub default: &'static str,
    /// Meaning, unit and effect.
    pub description: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T: Value> Key<T> {
    const fn new(name: &'static str, default: &'static str, description: &'static str) -> Self {
        Self { name, default, description, value: PhantomData }
    }

    const fn info(&self, section: &'static str) -> KeyInfo {
        KeyInfo {
            section,
            name: self.name,
            default: self.default,
            description: self.description,
            value_type: T::TYPE,
            form: T::FORM,
            accepts: accepts::<T>,
        }
    }
}

fn accepts<T: Value>(text: &str) -> bool {
    T::parse(text).is_some()
}

/// A key without its type, for tables and checks.
#[derive(Debug)]
pub struct KeyInfo {
    /// Heading in the reference page.
    pub section: &'static str,
    /// Name with dots.
    pub name: &'static str,
    /// The default as it would be written in a file; empty for "not set".
    pub default: &'static str,
    /// Meaning, unit and effect.
    pub description: &'static str,
    /// Name of the type.
    pub value_type: &'static str,
    /// What is accepted.
    pub form: &'static str,
    /// Whether a text is of the form.
    pub accepts: fn(&str) -> bool,
}

/// The key of this name, if Millstream has it.
#[must_use]
pub fn find(name: &str) -> Option<&'static KeyInfo> {
    ALL.iter().find(|key| key.name == name)
}

/// Flink's earlier names that are still accepted, with the names that replaced them.
pub const RENAMED: &[(&str, &str)] = &[
    ("restart-strategy", "restart-strategy.type"),
    ("state.checkpoints.dir", "execution.checkpointing.dir"),
    ("state.checkpoints.num-retained", "execution.checkpointing.num-retained"),
    ("state.savepoints.dir", "execution.checkpointing.savepoint-dir"),
    ("execution.savepoint.path", "execution.state-recovery.path"),
    ("s3.access.key", "s3.access-key"),
    ("s3.secret.key", "s3.secret-key"),
    ("s3.path-style-access", "s3.path.style.access"),
    ("execution.savepoint.ignore-unclaimed-state", "execution.state-recovery.ignore-unclaimed-state"),
];

/// Declares each key as a constant whose documentation is its description, and lists all of them in [`ALL`].
macro_rules! keys {
    ($($section:literal { $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $name:literal, $default:literal;)+ })+) => {
        $($($(#[doc = $doc])+ pub const $key: Key<$type> = Key::new($name, $default, concat!($($doc),+));)+)+

        /// Every key, in the order of the reference page.
        pub const ALL: &[KeyInfo] = &[$($($key.info($section),)+)+];
    };
}

keys! {
    "Job" {
        /// Name of the job in lists, metrics and logs. Without it the job has the name it was registered with.
        PIPELINE_NAME: Option<String> = "pipeline.name", "";
        /// Number of parallel subtasks of an operator that does not set its own; `cores` is the number of processors.
        PARALLELISM: Parallelism = "parallelism.default", "cores";
        /// Number of key groups of a keyed operator: the highest parallelism it can ever be rescaled to. It cannot be
        /// changed without losing keyed state.
        MAX_PARALLELISM: MaxParallelism = "pipeline.max-parallelism", "128";
        /// Parallelism of vertices by their ids, as REST and `describe` show them: it wins over what the program and
        /// `parallelism.default` say. The vertices of a job, and so their ids, do not depend on its parallelism.
        PARALLELISM_OVERRIDES: ParallelismOverrides = "pipeline.jobvertex-parallelism-overrides", "";
        /// Whether consecutive operators with forward edges run in one subtask: those that have the job's parallelism, or set the
        /// same themselves, and share slots.
        OPERATOR_CHAINING: bool = "pipeline.operator-chaining.enabled", "true";
        /// How often sources and timestamp assigners emit watermarks. 0 emits one after every batch.
        AUTO_WATERMARK_INTERVAL: Duration = "pipeline.auto-watermark-interval", "200 ms";
        /// Records per second that the sources of the whole job read together; without it there is no limit.
        SOURCE_RATE_LIMIT: Option<NonZeroU32> = "source.rate-limit", "";
    }
    "Exchange" {
        /// Rows in a full batch: the unit that moves between subtasks.
        BATCH_ROWS: NonZeroU32 = "pipeline.batch.rows", "1024";
        /// Bytes at which a batch is sent although it has fewer rows. Exact for records that own nothing on the heap; of
        /// others one in sixteen is weighed, by its serialised size.
        BATCH_BYTES: MemorySize = "pipeline.batch.bytes", "1 mb";
        /// Longest time a batch that is not full waits for more rows. A batch is sent as soon as nothing else waits to be
        /// processed, so this bounds the delay on busy subtasks only.
        BUFFER_TIMEOUT: Duration = "execution.buffer-timeout.interval", "100 ms";
        /// Credits of a channel: batches that may be queued or in process at the receiver before the sender is
        /// backpressured.
        BUFFERS_PER_CHANNEL: NonZeroU32 = "taskmanager.network.memory.buffers-per-channel", "8";
    }
    "Checkpoints" {
        /// Time from the start of one periodic checkpoint to the start of the next. 0 turns them off.
        CHECKPOINT_INTERVAL: Duration = "execution.checkpointing.interval", "1 s";
        /// What checkpoints guarantee.
        CHECKPOINT_MODE: CheckpointMode = "execution.checkpointing.mode", "EXACTLY_ONCE";
        /// Whether a checkpoint may overtake rows that wait, and store them instead, when it would have to wait for them
        /// too long. Takes EXACTLY_ONCE and one checkpoint at a time; savepoints never overtake rows. Flink's default is
        /// false.
        UNALIGNED_CHECKPOINTS: bool = "execution.checkpointing.unaligned.enabled", "true";
        /// How long the barriers of a checkpoint wait at a subtask, behind rows or for each other, before they overtake
        /// rows. 0, Flink's default, overtakes at once.
        ALIGNED_CHECKPOINT_TIMEOUT: Duration = "execution.checkpointing.aligned-checkpoint-timeout", "1 s";
        /// Time after which a checkpoint that is not complete is given up.
        CHECKPOINT_TIMEOUT: Duration = "execution.checkpointing.timeout", "10 min";
        /// Shortest time between the end of one checkpoint and the start of the next.
        CHECKPOINT_MIN_PAUSE: Duration = "execution.checkpointing.min-pause", "0 ms";
        /// How many checkpoints may be in progress at the same time.
        MAX_CONCURRENT_CHECKPOINTS: NonZeroU32 = "execution.checkpointing.max-concurrent-checkpoints", "1";
        /// How many checkpoints in a row may fail before the job does.
        TOLERABLE_FAILED_CHECKPOINTS: u32 = "execution.checkpointing.tolerable-failed-checkpoints", "0";
        /// How many completed checkpoints are kept, at least 2.
        NUM_RETAINED_CHECKPOINTS: Retained = "execution.checkpointing.num-retained", "2";
        /// Go on from an older checkpoint when the newest is damaged, even if output that it committed is then repeated.
        ALLOW_FALLBACK: bool = "execution.checkpointing.allow-fallback", "false";
        /// Place of the checkpoint store: a path, `file:///folder` or `s3://bucket/prefix`. Without it checkpoints live in
        /// the working directory.
        CHECKPOINT_DIR: Option<String> = "execution.checkpointing.dir", "";
        /// Place of savepoints: a path, `file:///folder` or `s3://bucket/prefix`. Without it they are made in the working
        /// directory.
        SAVEPOINT_DIR: Option<String> = "execution.checkpointing.savepoint-dir", "";
        /// What becomes of the checkpoints of a job that has ended.
        CHECKPOINT_RETENTION: CheckpointRetention = "execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION";
        /// Checkpoints that statistics remember one by one.
        CHECKPOINT_HISTORY: NonZeroU32 = "web.checkpoints.history", "10";
        /// Savepoint or checkpoint to start from, as the flag `-s`.
        RECOVERY_PATH: Option<String> = "execution.state-recovery.path", "";
        /// Whether state that no operator of the job claims may be dropped, as the flag `--allow-non-restored-state`.
        IGNORE_UNCLAIMED_STATE: bool = "execution.state-recovery.ignore-unclaimed-state", "false";
    }
    "Restarts" {
        /// What happens when a job fails.
        RESTART_STRATEGY: RestartStrategyKind = "restart-strategy.type", "exponential-delay";
        /// What restarts: `region`, the subtasks that are joined with the failed one by channels, while all others go on; or
        /// `full`, the whole job.
        FAILOVER_STRATEGY: FailoverKind = "jobmanager.execution.failover-strategy", "region";
        /// fixed-delay: restarts before the job fails for good.
        FIXED_DELAY_ATTEMPTS: Limit = "restart-strategy.fixed-delay.attempts", "1";
        /// fixed-delay: time before a restart.
        FIXED_DELAY_DELAY: Duration = "restart-strategy.fixed-delay.delay", "1 s";
        /// failure-rate: time before a restart.
        FAILURE_RATE_DELAY: Duration = "restart-strategy.failure-rate.delay", "1 s";
        /// failure-rate: the time over which failures are counted.
        FAILURE_RATE_INTERVAL: Duration = "restart-strategy.failure-rate.failure-rate-interval", "1 min";
        /// failure-rate: failures within the interval after which the job fails for good.
        FAILURE_RATE_MAX_FAILURES: NonZeroU32 = "restart-strategy.failure-rate.max-failures-per-interval", "1";
        /// exponential-delay: restarts at once, before the delays begin. Flink has none; most failures are the loss of a node
        /// that others stand in for.
        EXPONENTIAL_IMMEDIATE: u32 = "restart-strategy.exponential-delay.immediate-restarts", "1";
        /// exponential-delay: time before the first restart that is not at once.
        EXPONENTIAL_INITIAL_BACKOFF: Duration = "restart-strategy.exponential-delay.initial-backoff", "1 s";
        /// exponential-delay: longest time before a restart.
        EXPONENTIAL_MAX_BACKOFF: Duration = "restart-strategy.exponential-delay.max-backoff", "1 min";
        /// exponential-delay: factor by which the time grows with every restart.
        EXPONENTIAL_MULTIPLIER: Multiplier = "restart-strategy.exponential-delay.backoff-multiplier", "1.5";
        /// exponential-delay: part of the time by which it is varied at random, up or down.
        EXPONENTIAL_JITTER: Fraction = "restart-strategy.exponential-delay.jitter-factor", "0.1";
        /// exponential-delay: time without failure after which the delay starts anew. Flink's default is 1 h; here a job that
        /// ran well for a minute is restarted at once again.
        EXPONENTIAL_RESET_THRESHOLD: Duration = "restart-strategy.exponential-delay.reset-backoff-threshold", "1 min";
        /// exponential-delay: restarts in a row before the job fails for good.
        EXPONENTIAL_ATTEMPTS: Limit = "restart-strategy.exponential-delay.attempts-before-reset-backoff", "infinite";
    }
    "State" {
        /// What the keyed state of all subtasks of a node may take in memory. Beyond that, entries leave memory that the local
        /// copy of the state has and nobody has used for a while; they are read from there when they are needed again.
        /// Without it, a part of the process memory. Flink's task managers give it to RocksDB, divided among slots; here
        /// whoever needs it gets it.
        MANAGED_MEMORY_SIZE: Option<MemorySize> = "taskmanager.memory.managed.size", "";
        /// Part of the process memory that keyed state may take when `taskmanager.memory.managed.size` is not set.
        MANAGED_MEMORY_FRACTION: Fraction = "taskmanager.memory.managed.fraction", "0.4";
        /// Memory of the process: keyed state gets a part of it. Without it, what the control group of the process allows, or
        /// what the machine has. It limits nothing else: set it where several nodes share a machine.
        PROCESS_MEMORY_SIZE: Option<MemorySize> = "taskmanager.memory.process.size", "";
        /// Completed checkpoints that the local copy of the state may be behind before the subtask waits for it.
        STATE_FOLD_LAG: NonZeroU32 = "state.local.fold-lag", "4";
    }
    "S3" {
        /// Address of the server, as in `https://minio.example:9000`. Without it `AWS_ENDPOINT_URL`, else that of AWS.
        S3_ENDPOINT: Option<String> = "s3.endpoint", "";
        /// Region of the buckets. Without it `AWS_REGION`, else us-east-1.
        S3_REGION: Option<String> = "s3.region", "";
        /// Id of the access key. Without it the credentials are found as AWS's tools find them: in `AWS_ACCESS_KEY_ID` and
        /// `AWS_SECRET_ACCESS_KEY`, or by the role of the container or machine.
        S3_ACCESS_KEY: Option<String> = "s3.access-key", "";
        /// The secret of the access key. Shown as `******` everywhere; better given by the environment than by a flag.
        S3_SECRET_KEY: Option<String> = "s3.secret-key", "";
        /// Whether buckets are named in the path of an address and not in its host. Where the endpoint is an IP address or
        /// localhost it is always so.
        S3_PATH_STYLE: bool = "s3.path.style.access", "false";
    }
    "High availability" {
        /// Whether a cluster survives the loss of its leader, and by what. `object-store`: the log of the cluster lies in
        /// a store, and any job manager can take over; no ZooKeeper, no Kubernetes.
        HIGH_AVAILABILITY: HighAvailability = "high-availability.type", "NONE";
        /// Place of the cluster's log: a path that all job managers see, or `s3://bucket/prefix`.
        HA_STORAGE_DIR: Option<String> = "high-availability.storageDir", "";
        /// Name of the cluster below that place: clusters that share it must differ in this.
        HA_CLUSTER_ID: String = "high-availability.cluster-id", "/default";
        /// How long a leader may not be heard of before another job manager tries to take over; half as long again by
        /// chance. The leader shows a sign of life four times as often.
        HA_LEASE: Duration = "high-availability.lease", "2 s";
    }
    "Node" {
        /// Name of the node. Without it the node is called by the id of its folder.
        NODE_NAME: Option<String> = "node.name", "";
        /// What the node does. Job managers lead a cluster, one at a time; task managers run subtasks.
        NODE_ROLES: Roles = "node.roles", "job-manager;task-manager";
        /// Labels of the node, as `key:value,key:value`.
        NODE_LABELS: Labels = "node.labels", "";
        /// Address and port at which other nodes reach this one.
        NODE_ADDRESS: String = "node.address", "127.0.0.1:6121";
        /// Address and port that the node listens at. Without it those of `node.address`.
        NODE_BIND_ADDRESS: Option<String> = "node.bind-address", "";
        /// Where the job managers of the cluster are, as `host:port` separated by `;`.
        JOB_MANAGERS: Option<Addresses> = "cluster.job-managers", "";
        /// Slots of a task manager: how many subtasks of each vertex it runs at the same time. `cores` is the number of
        /// processors.
        TASK_SLOTS: Parallelism = "taskmanager.numberOfTaskSlots", "cores";
        /// Between two warnings of subtasks that were told to go and have not, because their code does not return.
        CANCELLATION_INTERVAL: Duration = "task.cancellation.interval", "30 s";
        /// How long subtasks that were told to go may take; then their process ends, since nothing else stops such code: the job
        /// goes on elsewhere. A node whose threads are all in such code ends as well. 0: never.
        CANCELLATION_TIMEOUT: Duration = "task.cancellation.timeout", "3 min";
        /// How a job is shared out to task managers with more slots than it needs. `SLOTS`: as many slots of each. `TASKS`: also
        /// as many subtasks on each, where vertices have less parallelism than the job. `MIN_RESOURCES`, or `NONE`: one after
        /// the other is filled. Subtasks that were on a node already stay there. Flink's default is `NONE`.
        LOAD_BALANCE: LoadBalanceMode = "taskmanager.load-balance.mode", "SLOTS";
        /// How jobs get along with slots. `adaptive`: a job runs with fewer subtasks while there are too few slots for all, and is
        /// scaled up when there are. `default`: it waits for all the slots that it wants.
        SCHEDULER: Scheduler = "jobmanager.scheduler", "adaptive";
        /// `reactive`: jobs run with all slots that there are, more of them whenever task managers join, whatever parallelism they
        /// were submitted with; several jobs share them alike. `none`: a job takes what it was submitted for.
        SCHEDULER_MODE: SchedulerMode = "scheduler-mode", "none";
        /// Adaptive scheduler: how long a job waits for slots after its submission, or when it has lost some, before it runs with
        /// those that there are, or fails if they are fewer than its lower bounds allow. 0: for ever.
        RESOURCE_WAIT: Duration = "jobmanager.adaptive-scheduler.submission.resource-wait-timeout", "5 min";
        /// Adaptive scheduler: how long a job that cannot run without other slots waits for all that it wants, from when there are
        /// enough to run with less; a lost node often comes back. With all slots there it starts at once. Flink's default is 10 s;
        /// here a node is back within a second or two, and starting with less costs less than a second.
        SUBMISSION_STABILIZATION: Duration = "jobmanager.adaptive-scheduler.submission.resource-stabilization-timeout", "3 s";
        /// Adaptive scheduler: how long a job that runs with less than it wants waits for the rest when some more slots come. With
        /// all slots there it is scaled up at once. Flink's default is 1 min; here a rescale pauses a job for less than a second.
        EXECUTING_STABILIZATION: Duration = "jobmanager.adaptive-scheduler.executing.resource-stabilization-timeout", "3 s";
        /// Adaptive scheduler: shortest time between two changes of the parallelism of a job that runs. Flink's default is 30 s;
        /// here whoever asks for another parallelism has it at once.
        RESCALE_COOLDOWN: Duration = "jobmanager.adaptive-scheduler.executing.cooldown-after-rescaling", "0 ms";
        /// Adaptive scheduler: how long a job that is to be rescaled goes on at most until the checkpoint is complete that it goes
        /// on from; that is begun at once. 0: it goes back to the newest that there is. Flink derives it from the interval of
        /// checkpoints, for which it waits.
        RESCALE_MAX_DELAY: Duration = "jobmanager.adaptive-scheduler.rescale-trigger.max-delay", "5 s";
        /// Adaptive scheduler: how many checkpoints in a row may fail before a job is rescaled without one.
        RESCALE_MAX_CHECKPOINT_FAILURES: u32 = "jobmanager.adaptive-scheduler.rescale-trigger.max-checkpoint-failures", "2";
        /// Time between two signs of life of a node. Flink's default is 10 s; here a lost node is noticed within a second.
        HEARTBEAT_INTERVAL: Duration = "heartbeat.interval", "100 ms";
        /// Time without a sign of life after which a node is lost. Flink's default is 50 s.
        HEARTBEAT_TIMEOUT: Duration = "heartbeat.timeout", "1 s";
        /// PEM file with the certificate of the node.
        CERTIFICATE_FILE: Option<String> = "security.certificate-file", "";
        /// PEM file with the key of that certificate.
        KEY_FILE: Option<String> = "security.key-file", "";
        /// PEM file with the authority that signed the certificates of all nodes of the cluster.
        AUTHORITY_FILE: Option<String> = "security.authority-file", "";
        /// Folder of the node: its identity, local state and, unless set elsewhere, checkpoints. Without it a run keeps them
        /// with its output, and a node in `out`, in a folder of its name.
        WORKING_DIR: Option<String> = "process.working-dir", "";
        /// Folder for temporary files. Without it they are made in the working directory.
        TMP_DIRS: Option<String> = "io.tmp.dirs", "";
        /// Address that the REST server binds and clients connect to.
        REST_ADDRESS: String = "rest.address", "127.0.0.1";
        /// Port of the REST server. 0 takes a free one and prints it.
        REST_PORT: u16 = "rest.port", "8081";
    }
    "Observation" {
        /// How often rates such as numRecordsInPerSecond are computed.
        METRICS_UPDATE_INTERVAL: Duration = "metrics.fetcher.update-interval", "1 s";
        /// Port on which Prometheus can scrape the metrics of this process under `/metrics`, or a range such as `9249-9260` of
        /// which the first free one is taken, for several processes on a host. 0 takes any free one and logs it. Without it
        /// only the REST server of a job manager answers, with the metrics of its own process.
        PROMETHEUS_PORT: Option<PortRange> = "metrics.reporter.prom.port", "";
        /// Address that the endpoint for Prometheus binds. Flink's reporter binds all addresses.
        PROMETHEUS_HOST: String = "metrics.reporter.prom.host", "127.0.0.1";
        /// What is logged: error, warn, info, debug or trace, also by module as in `info,millstream_state=debug`.
        LOGGING_LEVEL: String = "logging.level", "info";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_of_the_form_of_its_key() {
        for key in ALL {
            assert!((key.accepts)(key.default), "{} = '{}'", key.name, key.default);
            assert!(!key.description.trim().is_empty(), "{}", key.name);
        }
    }

    #[test]
    fn names_are_unique_and_none_is_the_parent_of_another() {
        for (index, key) in ALL.iter().enumerate() {
            for other in &ALL[index + 1..] {
                assert_ne!(key.name, other.name);
                assert!(!other.name.starts_with(&format!("{}.", key.name)), "{} is also a table", key.name);
                assert!(!key.name.starts_with(&format!("{}.", other.name)), "{} is also a table", other.name);
            }
        }
    }

    #[test]
    fn earlier_names_lead_to_keys_that_exist() {
        for (earlier, now) in RENAMED {
            assert!(find(now).is_some(), "{now}");
            assert!(find(earlier).is_none(), "{earlier}");
        }
    }
}
