//! The cluster as REST shows it: its size, its task managers, its configuration.

use serde::{Deserialize, Serialize};

/// `/overview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterOverview {
    /// Task managers that are alive.
    pub taskmanagers: u32,
    /// All slots.
    pub slots_total: u32,
    /// Slots without subtask.
    pub slots_available: u32,
    /// Jobs that have not ended.
    pub jobs_running: u32,
    /// Jobs that ended by themselves or were stopped.
    pub jobs_finished: u32,
    /// Jobs that were cancelled.
    pub jobs_cancelled: u32,
    /// Jobs that failed.
    pub jobs_failed: u32,
    /// Version of this program.
    pub flink_version: String,
    /// Commit of this program, or `unknown`.
    pub flink_commit: String,
}

/// One task manager.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerView {
    /// Stable id of the node.
    pub id: String,
    /// Address of its actors.
    pub path: String,
    /// Port of the data plane, or -1 if it has none.
    pub data_port: i32,
    /// Always -1: there is no JVM.
    pub jmx_port: i32,
    /// When it was heard of last, milliseconds since the epoch.
    pub time_since_last_heartbeat: i64,
    /// All slots.
    pub slots_number: u32,
    /// Slots without subtask.
    pub free_slots: u32,
    /// Subtasks that run on it.
    pub assigned_tasks: u32,
    /// The machine.
    pub hardware: Hardware,
    /// Whether it is kept from getting subtasks.
    pub blocked: bool,
}

/// The machine of a task manager. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hardware {
    /// Processors that this process may use.
    pub cpu_cores: u32,
    /// Memory of the machine.
    pub physical_memory: u64,
    /// Memory of it that nobody uses.
    pub free_memory: u64,
    /// Memory that keyed state may take; 0 is no limit.
    pub managed_memory: u64,
}

/// One option: `/jobmanager/config` is a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// Key.
    pub key: String,
    /// Value as written.
    pub value: String,
}
