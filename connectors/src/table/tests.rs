//! The table sink over crashes between any two of its steps.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use millstream_runtime::batch::Rows;
use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId, SubtaskIndex};
use millstream_runtime::ports::sink::{OlderAttempts, SinkContext, SinkWriter, TwoPhaseCommitSink};
use millstream_runtime::ports::{ErrorKind, PortError};

use super::{Table, TableSink, TableTransaction, Upsert, Visit, clean_uncommitted, clear_output};

/// Adds: a row merged twice would show.
fn sums(folder: &Path) -> TableSink<(u64, u64)> {
    let upsert = |row: &(u64, u64)| Upsert { key: row.0.to_be_bytes().into(), value: row.1.to_le_bytes().into() };
    TableSink::new(folder, upsert, |old, new| {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        (number(new) != 0).then(|| (old.map_or(0, number) + number(new)).to_le_bytes().into())
    })
}

fn context(attempt: u32, subtask: u32) -> SinkContext {
    SinkContext {
        job: JobId::from_name("job"),
        attempt: AttemptId { epoch: Epoch(1), attempt: AttemptNumber(attempt) },
        subtask: SubtaskIndex(subtask),
        parallelism: 2,
    }
}

type Writer = Box<dyn SinkWriter<(u64, u64), TableTransaction>>;

fn staged(writer: &mut Writer, rows: &[(u64, u64)]) -> Vec<TableTransaction> {
    if let Some(work) = writer.write(Rows::untimed(rows.to_vec())).unwrap() {
        work().unwrap();
    }
    writer.prepare(CutNumber(1)).unwrap()().unwrap()
}

fn collect(iterate: impl FnOnce(Visit<'_>) -> Result<(), PortError>) -> Vec<(u64, u64)> {
    let mut entries = Vec::new();
    iterate(&mut |key, value| {
        entries.push((u64::from_be_bytes(key.try_into().unwrap()), u64::from_le_bytes(value.try_into().unwrap())));
        Ok(())
    })
    .unwrap();
    entries
}

#[test]
fn rows_are_merged_at_the_commit_and_read_in_key_order() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("deep/table");
    let sink = sums(&folder);
    let (mut first, mut second) = (sink.writer(context(0, 0)).unwrap(), sink.writer(context(0, 1)).unwrap());
    assert!(staged(&mut first, &[]).is_empty(), "an empty cut stages nothing");
    assert!(!folder.exists());
    let mut transactions = staged(&mut first, &[(300, 1), (2, 2)]);
    transactions.extend(staged(&mut second, &[(2, 5), (1, 1), (1, 0), (9, 0)]));
    assert!(collect(|visit| sink.iterate(visit)).is_empty());
    sink.committer(context(0, 0)).unwrap().commit(transactions).unwrap();
    assert_eq!(collect(|visit| sink.iterate(visit)), [(1, 1), (2, 7), (300, 1)]);
    drop((first, second));
    drop(sink);
    let mut table = Table::open_read(&folder).unwrap();
    assert_eq!(collect(|visit| table.iterate(visit)), [(1, 1), (2, 7), (300, 1)]);
}

#[test]
fn committing_again_changes_nothing_whatever_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sums(folder.path());
    let mut writer = sink.writer(context(0, 0)).unwrap();
    let older = staged(&mut writer, &[(1, 1)]);
    let newer = staged(&mut writer, &[(1, 10)]);
    drop(writer);
    sink.committer(context(0, 0)).unwrap().commit(newer.clone()).unwrap();
    drop(sink);
    // Another process, told of both: one is committed already, and a list sent through a checkpoint reads the same.
    let sink = sums(folder.path());
    let listed: Vec<TableTransaction> =
        serde_json::from_slice(&serde_json::to_vec(&[older, newer].concat()).unwrap()).unwrap();
    for attempt in 1..3 {
        let mut committer = sink.committer(context(attempt, 0)).unwrap();
        committer.abort_unlisted(&listed, &OlderAttempts::before(context(attempt, 0).attempt)).unwrap();
        committer.commit(listed.clone()).unwrap();
    }
    assert_eq!(collect(|visit| sink.iterate(visit)), [(1, 11)]);
}

#[test]
fn stagings_of_older_attempts_outside_the_list_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sums(folder.path());
    let mut writer = sink.writer(context(0, 1)).unwrap();
    let listed = staged(&mut writer, &[(1, 1)]);
    let unlisted = staged(&mut writer, &[(1, 2)]);
    let other = SinkContext { job: JobId::from_name("other"), ..context(0, 0) };
    let foreign = staged(&mut sink.writer(other).unwrap(), &[(1, 4)]);
    let present = staged(&mut sink.writer(context(1, 0)).unwrap(), &[(1, 8)]);
    let mut committer = sink.committer(context(1, 0)).unwrap();
    committer.abort_unlisted(&listed, &OlderAttempts::before(context(1, 0).attempt)).unwrap();
    let error = committer.commit(unlisted).unwrap_err();
    assert_eq!(error.kind, ErrorKind::GiveUp);
    assert!(error.message.contains("neither staged nor committed"), "{error}");
    committer.commit([listed, foreign, present].concat()).unwrap();
    assert_eq!(collect(|visit| sink.iterate(visit)), [(1, 13)]);
}

#[test]
fn a_lost_transaction_leaves_the_others_of_the_same_call_uncommitted() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sums(folder.path());
    let good = staged(&mut sink.writer(context(0, 0)).unwrap(), &[(1, 1)]);
    let lost = TableTransaction { sequence: 77, ..good[0].clone() };
    let mut committer = sink.committer(context(0, 0)).unwrap();
    assert!(committer.commit(vec![good[0].clone(), lost]).is_err());
    assert!(collect(|visit| sink.iterate(visit)).is_empty());
    committer.commit(good).unwrap();
    assert_eq!(collect(|visit| sink.iterate(visit)), [(1, 1)]);
}

#[test]
fn the_map_grows_beyond_its_first_size() {
    let folder = tempfile::tempdir().unwrap();
    let upsert = |row: &u64| Upsert { key: row.to_be_bytes().into(), value: vec![7; 1 << 20] };
    let sink = TableSink::<u64>::new(folder.path(), upsert, |_, new| Some(new.to_vec()));
    let mut writer = sink.writer(context(0, 0)).unwrap();
    for row in 0..70 {
        if let Some(work) = writer.write(Rows::untimed(vec![row])).unwrap() {
            work().unwrap();
        }
    }
    let transactions = writer.prepare(CutNumber(1)).unwrap()().unwrap();
    assert!(transactions[0].parts > 1);
    sink.committer(context(0, 0)).unwrap().commit(transactions).unwrap();
    let mut bytes = 0;
    sink.iterate(&mut |_, value| {
        bytes += value.len();
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes, 70 << 20);
}

const CHILD_FOLDER: &str = "MILLSTREAM_TEST_TABLE";

/// Run by the test below in a process of its own.
#[test]
#[ignore = "a part of another test"]
fn reader_process() {
    let Ok(folder) = std::env::var(CHILD_FOLDER) else { return };
    let mut table = Table::open_read(Path::new(&folder)).unwrap();
    for _ in 0..2 {
        let entries = collect(|visit| table.iterate(visit));
        println!("entries {}", entries.len());
    }
}

#[test]
fn another_process_reads_what_is_committed_while_the_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sums(folder.path());
    let mut writer = sink.writer(context(0, 0)).unwrap();
    let mut wanted = 0u64;
    for rows in [10u64, 1_000_000] {
        let transactions = staged(&mut writer, &(0..rows).map(|n| (wanted + n, 1)).collect::<Vec<_>>());
        sink.committer(context(0, 0)).unwrap().commit(transactions).unwrap();
        wanted += rows;
        let uncommitted = staged(&mut writer, &[(u64::MAX, 1)]);
        assert_eq!(uncommitted.len(), 1);
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "table::tests::reader_process", "--ignored", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .output()
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        let read = output.lines().filter(|line| line.contains(&format!("entries {wanted}"))).count();
        assert_eq!(read, 2, "{output}");
    }
}

#[test]
fn impossible_keys_and_foreign_folders_are_refused_with_the_folder_named() {
    let folder = tempfile::tempdir().unwrap();
    for length in [0, 511] {
        let upsert = |row: &usize| Upsert { key: vec![1; *row], value: Vec::new() };
        let sink = TableSink::<usize>::new(folder.path(), upsert, |_, new| Some(new.to_vec()));
        let error = sink.writer(context(0, 0)).unwrap().write(Rows::untimed(vec![length])).err().unwrap();
        assert_eq!(error.kind, ErrorKind::FixInput);
    }
    assert!(Table::open_read(folder.path()).is_err(), "nothing was made");
    std::fs::write(folder.path().join("data.mdb"), vec![9; 10_000]).unwrap();
    let error = Table::open_read(folder.path()).err().unwrap();
    assert!(error.message.contains(&folder.path().display().to_string()), "{error}");
}

#[test]
fn cleaning_removes_stagings_and_clearing_everything() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    clear_output(&missing).unwrap();
    assert!(!missing.exists());
    let sink = sums(folder.path());
    let mut writer = sink.writer(context(0, 0)).unwrap();
    let committed = staged(&mut writer, &[(1, 1)]);
    let uncommitted = staged(&mut writer, &[(1, 2)]);
    drop(writer);
    sink.committer(context(0, 0)).unwrap().commit(committed).unwrap();
    drop(sink);
    clean_uncommitted(folder.path()).unwrap();
    let sink = sums(folder.path());
    assert_eq!(collect(|visit| sink.iterate(visit)), [(1, 1)]);
    assert!(sink.committer(context(0, 0)).unwrap().commit(uncommitted).is_err());
    drop(sink);
    clear_output(folder.path()).unwrap();
    let mut table = Table::open_read(folder.path()).unwrap();
    assert!(collect(|visit| table.iterate(visit)).is_empty());
}
