//! The file sink over crashes between any two of its steps.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_runtime::batch::Rows;
use millstream_runtime::ids::{AttemptId, AttemptNumber, CutNumber, Epoch, JobId, SubtaskIndex};
use millstream_runtime::ports::ErrorKind;
use millstream_runtime::ports::sink::{OlderAttempts, SinkContext, SinkWriter, TwoPhaseCommitSink};

use super::names::{Hidden, is_visible, job_digits};
use super::{FileSink, PendingFile, clean_uncommitted, clear_output};

type Row = (u64, String);

fn context(attempt: u32) -> SinkContext {
    SinkContext {
        job: JobId::from_name("job"),
        attempt: AttemptId { epoch: Epoch(3), attempt: AttemptNumber(attempt) },
        subtask: SubtaskIndex(1),
        parallelism: 2,
    }
}

fn rows(range: std::ops::Range<u64>) -> Rows<Row> {
    Rows::untimed(range.map(|n| (n, "x".repeat(20))).collect())
}

fn write(writer: &mut dyn SinkWriter<Row, PendingFile>, rows: Rows<Row>) {
    if let Some(work) = writer.write(rows).unwrap() {
        work().unwrap();
    }
}

fn prepare(writer: &mut dyn SinkWriter<Row, PendingFile>, cut: u64) -> Vec<PendingFile> {
    writer.prepare(CutNumber(cut)).unwrap()().unwrap()
}

/// The name of a visible file of the job in [`context`].
fn named(rest: &str) -> String {
    format!("part-{}-{rest}", job_digits(context(0).job))
}

/// Names and contents of the visible files.
fn visible(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect()
}

fn hidden_count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count() - visible(folder).len()
}

#[test]
fn rows_become_visible_at_the_commit_and_only_then() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("deep/out");
    let sink = FileSink::<Row>::json_lines(&folder);
    let mut writer = sink.writer(context(0)).unwrap();
    assert!(prepare(&mut *writer, 1).is_empty(), "an empty cut makes no file");
    write(&mut *writer, rows(0..2));
    let first = prepare(&mut *writer, 2);
    write(&mut *writer, rows(2..3));
    let second = prepare(&mut *writer, 3);
    assert!(visible(&folder).is_empty());
    sink.committer(context(0)).unwrap().commit([first, second].concat()).unwrap();
    let line = |n: u64| format!("[{n},\"{}\"]\n", "x".repeat(20));
    let wanted = [(named("3-0-1-2.jsonl"), line(0) + &line(1)), (named("3-0-1-3.jsonl"), line(2))];
    assert_eq!(visible(&folder), wanted.into());
    assert_eq!(hidden_count(&folder), 0);
}

#[test]
fn a_crash_before_the_commit_leaves_what_the_next_attempt_commits() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<Row>::json_lines(folder.path());
    let mut writer = sink.writer(context(0)).unwrap();
    write(&mut *writer, rows(0..2));
    let listed = prepare(&mut *writer, 1);
    write(&mut *writer, rows(2..4));
    let unlisted = prepare(&mut *writer, 2);
    assert_eq!(unlisted.len(), 1);
    fs::write(folder.path().join(".notes"), "foreign").unwrap();
    fs::write(folder.path().join("foreign.jsonl"), "foreign").unwrap();
    let other_job = Hidden { job: "00000000".to_string(), ..Hidden::parse(&listed[0].hidden).unwrap() }.name();
    fs::write(folder.path().join(&other_job), "foreign").unwrap();
    let mut present = sink.writer(context(1)).unwrap();
    write(&mut *present, rows(4..5));
    let present = prepare(&mut *present, 1);

    let encoded = serde_json::to_vec(&listed).unwrap();
    let restored: Vec<PendingFile> = serde_json::from_slice(&encoded).unwrap();
    let mut committer = FileSink::<Row>::json_lines(folder.path()).committer(context(1)).unwrap();
    committer.abort_unlisted(&restored, &OlderAttempts::before(context(1).attempt)).unwrap();
    assert!(!folder.path().join(&unlisted[0].hidden).exists());
    committer.commit(restored).unwrap();
    committer.commit(present).unwrap();
    let names: Vec<_> = visible(folder.path()).into_keys().collect();
    assert_eq!(names, ["foreign.jsonl".to_string(), named("3-0-1-1.jsonl"), named("3-1-1-1.jsonl")]);
    assert!(folder.path().join(".notes").exists() && folder.path().join(&other_job).exists());
}

#[test]
fn committing_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<Row>::json_lines(folder.path());
    let mut writer = sink.writer(context(0)).unwrap();
    write(&mut *writer, rows(0..2));
    let first = prepare(&mut *writer, 1);
    write(&mut *writer, rows(2..4));
    let second = prepare(&mut *writer, 2);
    // The process died after the first rename, before the answer.
    fs::rename(folder.path().join(&first[0].hidden), folder.path().join(&first[0].visible)).unwrap();
    let both = [first, second].concat();
    for attempt in 1..3 {
        let mut committer = sink.committer(context(attempt)).unwrap();
        committer.abort_unlisted(&both, &OlderAttempts::before(context(attempt).attempt)).unwrap();
        committer.commit(both.clone()).unwrap();
    }
    assert_eq!(visible(folder.path()).len(), 2);
}

#[test]
fn a_lost_torn_or_foreign_file_is_named() {
    let commit_after = |change: fn(&Path, &PendingFile)| {
        let folder = tempfile::tempdir().unwrap();
        let sink = FileSink::<Row>::json_lines(folder.path());
        let mut writer = sink.writer(context(0)).unwrap();
        write(&mut *writer, rows(0..2));
        let pending = prepare(&mut *writer, 1);
        change(folder.path(), &pending[0]);
        let error = sink.committer(context(0)).unwrap().commit(pending).unwrap_err();
        assert_eq!(error.kind, ErrorKind::GiveUp);
        assert!(error.message.contains(&named("3-0-1-1.jsonl")) || error.message.contains(".inprogress"), "{error}");
    };
    commit_after(|folder, file| fs::remove_file(folder.join(&file.hidden)).unwrap());
    commit_after(|folder, file| fs::write(folder.join(&file.hidden), "torn").unwrap());
    commit_after(|folder, file| fs::write(folder.join(&file.visible), "foreign").unwrap());
    commit_after(|folder, file| {
        fs::remove_file(folder.join(&file.hidden)).unwrap();
        fs::write(folder.join(&file.visible), "foreign").unwrap();
    });
}

#[test]
fn a_large_cut_rolls_over_into_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<Row>::lines(folder.path(), |row, out| {
        if row.0 % 2 == 0 {
            out.extend_from_slice(row.1.as_bytes());
        }
    })
    .roll_bytes(100)
    .extension("txt");
    let mut writer = sink.writer(context(0)).unwrap();
    for n in 0..20 {
        write(&mut *writer, rows(n..n + 1));
    }
    let pending = prepare(&mut *writer, 1);
    assert_eq!(pending.len(), 2);
    sink.committer(context(0)).unwrap().commit(pending).unwrap();
    let files = visible(folder.path());
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), [named("3-0-1-1-1.txt"), named("3-0-1-1.txt")]);
    assert_eq!(files.values().map(|text| text.lines().count()).sum::<usize>(), 10);
}

#[test]
fn a_cut_beyond_the_buffer_is_written_by_work_not_in_the_handler() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<Row>::json_lines(folder.path());
    let mut writer = sink.writer(context(0)).unwrap();
    assert!(writer.write(rows(0..10)).unwrap().is_none());
    let work = writer.write(rows(10..50_000)).unwrap().expect("over 1 MiB");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is created in the handler");
    work().unwrap();
    let pending = prepare(&mut *writer, 1);
    sink.committer(context(0)).unwrap().commit(pending).unwrap();
    assert_eq!(visible(folder.path())[&named("3-0-1-1.jsonl")].lines().count(), 50_000);
}

#[test]
fn a_single_file_holds_the_rows_of_the_last_committed_cut() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<Row>::json_lines(folder.path()).single_file("summary.json");
    let mut writer = sink.writer(context(0)).unwrap();
    let mut pending = Vec::new();
    for cut in 1..4 {
        if cut < 3 {
            write(&mut *writer, rows(cut..cut + 1));
        }
        pending.extend(prepare(&mut *writer, cut));
    }
    let mut committer = sink.committer(context(0)).unwrap();
    committer.commit(pending.clone()).unwrap();
    committer.commit(pending).unwrap();
    let files = visible(folder.path());
    assert_eq!(files.keys().collect::<Vec<_>>(), ["summary.json"]);
    assert!(files["summary.json"].starts_with("[2,"));
}

#[test]
fn cleaning_removes_only_the_files_of_this_sink() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<Row>::json_lines(folder.path());
    let mut writer = sink.writer(context(0)).unwrap();
    write(&mut *writer, rows(0..1));
    let committed = prepare(&mut *writer, 1);
    write(&mut *writer, rows(1..2));
    prepare(&mut *writer, 2);
    sink.committer(context(0)).unwrap().commit(committed).unwrap();
    for name in ["part-of-mine.jsonl", ".part-of-mine.inprogress"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    clean_uncommitted(folder.path()).unwrap();
    assert_eq!((visible(folder.path()).len(), hidden_count(folder.path())), (2, 1));
    clear_output(folder.path()).unwrap();
    assert_eq!(visible(folder.path()).into_keys().collect::<Vec<_>>(), ["part-of-mine.jsonl"]);
    clean_uncommitted(&folder.path().join("missing")).unwrap();
}

#[test]
fn hidden_names_are_read_back_and_other_names_refused() {
    let hidden = Hidden::new(&context(7), 12);
    assert_eq!(Hidden::parse(&hidden.name()), Some(hidden));
    for name in [".part-x.inprogress", ".part-00000000-1-2-3.inprogress", "part-1-2-3-4.jsonl", ".part-"] {
        assert_eq!(Hidden::parse(name), None);
    }
    for name in ["part-0123abcd-1-2-3-4.jsonl", "part-0123abcd-1-2-3-4-5.txt"] {
        assert!(is_visible(name), "{name}");
    }
    for name in
        ["part-0123abcd-1-2-3.jsonl", "part-0123abcd-1-2-3-x.jsonl", "part-0123-1-2-3-4.jsonl", "part-of-mine.txt"]
    {
        assert!(!is_visible(name), "{name}");
    }
}
