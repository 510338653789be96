//! Watching: new files and growth are read once, partial lines wait, and nothing is looked at between intervals.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use millstream_runtime::ports::source::{Polled, Source, SplitIndex};
use millstream_runtime::time::MIN_TIMESTAMP;

use super::FileSource;
use super::tests::{Seen, Witness, witness};
use crate::error::lock;
use crate::test_world::{Driven, discover};

fn append(path: &Path, bytes: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes.as_bytes()).unwrap();
}

fn texts(rows: &[Seen]) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8_lossy(&row.3).into_owned()).collect()
}

fn watching(folder: &Path) -> FileSource<Seen, Witness> {
    witness(folder).chunk_bytes(4).watch(100)
}

/// Lets one interval pass and reads what came.
fn after_interval(driven: &mut Driven<Seen>) -> Vec<Seen> {
    assert!(driven.world.next_timer(), "a look must have been planned");
    driven.drain(10).unwrap()
}

#[test]
fn growth_is_read_once_and_a_partial_line_waits_for_its_newline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    append(&path, "one\ntw");
    let source = watching(folder.path());
    assert!(!source.is_bounded());
    let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
    assert_eq!(texts(&driven.drain(10).unwrap()), ["one"]);
    assert!(after_interval(&mut driven).is_empty());
    append(&path, "o\nthree\nfo");
    assert!(driven.drain(10).unwrap().is_empty(), "nobody looks before the interval is over");
    let rows = after_interval(&mut driven);
    assert_eq!(texts(&rows), ["two", "three"]);
    assert_eq!((rows[0].1, rows[0].2), (2, 4));
    append(&path, "ur\n");
    let splits = driven.splits();
    let mut restarted = Driven::new(&source, splits).unwrap();
    assert_eq!(texts(&restarted.drain(10).unwrap()), ["four"]);
    assert_eq!(texts(&after_interval(&mut driven)), ["four"]);
}

#[test]
fn a_split_at_its_end_is_idle_once_and_then_asks_for_one_wake_up_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("a.jsonl"), "one\n");
    let source = watching(folder.path());
    let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
    driven.reader.no_more_splits();
    let mut rows = Vec::new();
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(driven.poll(10, &mut rows).unwrap());
    }
    assert_eq!(answers[..2], [Polled::Rows(SplitIndex(0)), Polled::Idle(SplitIndex(0))]);
    assert!(answers[2..].iter().all(|answer| *answer == Polled::Waiting));
    assert_eq!(*lock(&driven.world.timers), [100]);
}

#[test]
fn a_file_added_while_running_is_read_once_with_the_floor_it_was_found_at() {
    let folder = tempfile::tempdir().unwrap();
    append(&folder.path().join("a.jsonl"), "one\n");
    let source = watching(folder.path());
    let mut enumerator = source.enumerator(None).unwrap();
    assert_eq!(enumerator.discovery_interval_ms(), Some(100));
    let mut driven = Driven::new(&source, enumerator.discover().unwrap()).unwrap();
    assert_eq!(driven.drain(10).unwrap()[0].5, MIN_TIMESTAMP);
    append(&folder.path().join("b.jsonl"), "two\nthree\n");
    let restored = source.enumerator(Some(&enumerator.snapshot())).unwrap().discover().unwrap();
    let found = enumerator.discover().unwrap();
    assert_eq!(found, restored);
    assert_eq!(found.len(), 1);
    assert!(enumerator.discover().unwrap().is_empty());
    driven.reader.add_splits(found, 77).unwrap();
    let mut rows = Vec::new();
    assert_eq!(driven.poll(1, &mut rows).unwrap(), Polled::Rows(SplitIndex(1)));
    assert_eq!((texts(&rows), rows[0].5), (vec!["two".to_string()], 77));
    let mut restarted = Driven::new(&source, driven.splits()).unwrap();
    let rows = restarted.drain(10).unwrap();
    assert_eq!((texts(&rows), rows[0].5), (vec!["three".to_string()], 77), "late stays late over restarts");
}

#[test]
fn a_watched_file_that_shrinks_or_vanishes_fails_the_job() {
    for change in [(|path| fs::write(path, "o").unwrap()) as fn(&Path), |path| fs::remove_file(path).unwrap()] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        append(&path, "one\n");
        let source = watching(folder.path());
        let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
        driven.drain(10).unwrap();
        change(&path);
        driven.world.next_timer();
        assert!(driven.drain(10).unwrap_err().message.contains("a.jsonl"));
    }
}

#[test]
fn a_compressed_file_is_taken_whole_and_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"one\ntwo").unwrap();
    fs::write(folder.path().join("a.jsonl.gz"), encoder.finish().unwrap()).unwrap();
    let source = watching(folder.path());
    let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
    assert_eq!(texts(&driven.drain(10).unwrap()), ["one", "two"]);
    assert!(driven.splits().is_empty());
}
