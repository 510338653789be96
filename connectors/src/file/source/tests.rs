//! Bounded reading: every line once, whatever the chunks, the positions of restarts and the shape of the files.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use millstream_runtime::ports::source::{Polled, Source, SplitIndex};
use millstream_runtime::ports::{ErrorKind, PortError};
use millstream_runtime::time::MIN_TIMESTAMP;
use proptest::prelude::*;

use super::{BadLines, FileSource, Line, LineFormat};
use crate::test_world::{Driven, discover};

/// What a line was, in full; the state counts the lines given.
pub(super) type Seen = (String, u64, u64, Vec<u8>, u64, i64);

#[derive(Clone)]
pub(super) struct Witness;

impl LineFormat for Witness {
    type Record = Seen;
    type SplitState = u64;
    fn decode(&self, state: &mut u64, line: Line<'_>, out: &mut Vec<Seen>) {
        *state += 1;
        out.push((line.file.to_string(), line.number, line.offset, line.bytes.to_vec(), *state, line.floor));
    }
}

pub(super) fn witness(path: &Path) -> FileSource<Seen, Witness> {
    FileSource::new(path, Witness)
}

fn gzip(bytes: &[u8], member_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for member in bytes.chunks(member_bytes.max(1)) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(member).unwrap();
        out.extend(encoder.finish().unwrap());
    }
    if bytes.is_empty() {
        out = GzEncoder::new(Vec::new(), Compression::fast()).finish().unwrap();
    }
    out
}

/// The contract, naively.
fn expected(file: &str, content: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let (mut offset, mut state) = (0u64, 0);
    let mut parts: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
    if parts.last().is_some_and(|last| last.is_empty()) {
        parts.pop();
    }
    for (index, part) in parts.into_iter().enumerate() {
        if !part.iter().all(|byte| b" \t\r".contains(byte)) {
            state += 1;
            seen.push((file.to_string(), index as u64 + 1, offset, part.to_vec(), state, MIN_TIMESTAMP));
        }
        offset += part.len() as u64 + 1;
    }
    seen
}

fn read_with_restarts(source: &FileSource<Seen, Witness>, max_rows: usize, restart_every: usize) -> Vec<Seen> {
    let mut driven = Driven::new(source, discover(source).unwrap()).unwrap();
    let mut rows = Vec::new();
    for step in 1.. {
        driven.reader.no_more_splits();
        if driven.poll(max_rows, &mut rows).unwrap() == Polled::EndOfInput {
            break;
        }
        if step % restart_every == 0 {
            let splits = driven.splits();
            driven = Driven::new(source, splits).unwrap();
        }
    }
    rows
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => "[a-z]{1,12}".prop_map(String::into_bytes),
        2 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"  \t".to_vec()),
        1 => Just(b"\x0c".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_comes_once_for_any_chunk_size_and_restart(
        content in contents(), chunk in 1usize..20, max_rows in 1usize..4, restart_every in 1usize..4,
        member in proptest::option::of(1usize..30),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let name = if member.is_some() { "a.jsonl.gz" } else { "a.jsonl" };
        let bytes = member.map_or(content.clone(), |member| gzip(&content, member));
        fs::write(folder.path().join(name), bytes).unwrap();
        let source = witness(folder.path()).chunk_bytes(chunk);
        prop_assert_eq!(read_with_restarts(&source, max_rows, restart_every), expected(name, &content));
    }

    #[test]
    fn long_lines_are_cut_alike_for_any_chunk_size(content in contents(), chunk in 1usize..20, limit in 1usize..8) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jsonl"), &content).unwrap();
        let source = witness(folder.path()).chunk_bytes(chunk).max_line_bytes(limit);
        let mut wanted = expected("a.jsonl", &content);
        wanted.iter_mut().for_each(|seen| seen.3.truncate(limit));
        prop_assert_eq!(read_with_restarts(&source, 3, usize::MAX), wanted);
    }
}

#[test]
fn only_visible_files_with_the_extension_directly_in_the_folder_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b.jsonl", "a.jsonl", ".hidden.jsonl", "notes.txt", "c.jsonl.tmp"] {
        fs::write(folder.path().join(name), "{}\n").unwrap();
    }
    fs::create_dir(folder.path().join("deep.jsonl")).unwrap();
    let ids = |source: &FileSource<Seen, Witness>| -> Vec<String> {
        discover(source).unwrap().into_iter().map(|split| split.id).collect()
    };
    assert_eq!(ids(&witness(folder.path())), ["a.jsonl", "b.jsonl"]);
    assert_eq!(ids(&witness(folder.path()).extensions(&[".txt"])), ["notes.txt"]);
    assert_eq!(ids(&witness(&folder.path().join("notes.txt"))), ["notes.txt"]);
}

#[test]
fn only_spaces_tabs_and_carriage_returns_make_a_blank_line() {
    let folder = tempfile::tempdir().unwrap();
    let content = b" \t\r\n\x0c\n \x0b \nend\n\n";
    fs::write(folder.path().join("a.jsonl"), content).unwrap();
    for chunk in [1, 64] {
        let rows = read_with_restarts(&witness(folder.path()).chunk_bytes(chunk), 10, usize::MAX);
        let lines: Vec<_> = rows.iter().map(|row| (row.1, row.3.as_slice())).collect();
        assert_eq!(lines, [(2, &b"\x0c"[..]), (3, b" \x0b "), (4, b"end")]);
    }
}

#[test]
fn a_single_file_is_read_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules");
    fs::write(&path, "one\ntwo").unwrap();
    let rows = read_with_restarts(&witness(&path), 10, usize::MAX);
    assert_eq!(rows, expected("rules", b"one\ntwo"));
}

#[test]
fn poll_answers_waiting_instead_of_reading_itself() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), "one\n").unwrap();
    let source = witness(folder.path());
    let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
    let mut rows = Vec::new();
    assert_eq!(driven.reader.poll(&driven.progress, 10, &mut rows).unwrap(), Polled::Waiting);
    assert!(driven.world.run_blocking());
    assert_eq!(driven.world.woken.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(driven.reader.poll(&driven.progress, 10, &mut rows).unwrap(), Polled::Rows(SplitIndex(0)));
    assert_eq!(rows.len(), 1);
}

#[test]
fn the_file_furthest_behind_is_read_first() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", "b.jsonl"] {
        fs::write(folder.path().join(name), "1\n2\n3\n").unwrap();
    }
    let source = witness(folder.path());
    let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
    let mut order = Vec::new();
    for watermarks in [[0, 0], [5, 0], [5, 7], [9, 7]] {
        driven.progress.0 = watermarks.to_vec();
        if let Polled::Rows(split) = driven.poll(1, &mut Vec::new()).unwrap() {
            order.push(split.0);
        }
    }
    assert_eq!(order, [0, 1, 0, 1]);
}

#[test]
fn a_bounded_input_stays_what_it_was_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), "1\n").unwrap();
    let source = witness(folder.path());
    let mut enumerator = source.enumerator(None).unwrap();
    let unlooked = enumerator.snapshot();
    assert_eq!(enumerator.discover().unwrap().len(), 1);
    fs::write(folder.path().join("b.jsonl"), "2\n").unwrap();
    assert!(enumerator.discover().unwrap().is_empty());
    let snapshot = enumerator.snapshot();
    assert!(source.enumerator(Some(&snapshot)).unwrap().discover().unwrap().is_empty());
    assert_eq!(source.enumerator(Some(&unlooked)).unwrap().discover().unwrap().len(), 2);
    assert!(source.enumerator(Some(b"foreign")).is_err());
}

fn restart_after(change: impl FnOnce(&Path)) -> PortError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let source = witness(folder.path());
    let mut driven = Driven::new(&source, discover(&source).unwrap()).unwrap();
    driven.poll(1, &mut Vec::new()).unwrap();
    let splits = driven.splits();
    change(&path);
    let mut driven = Driven::new(&source, splits).unwrap();
    driven.poll(1, &mut Vec::new()).unwrap_err()
}

#[test]
fn a_file_that_shrank_vanished_or_was_replaced_is_named() {
    for (change, word) in [
        ((|path| fs::write(path, "one\n").unwrap()) as fn(&Path), "shrunk"),
        (|path| fs::remove_file(path).unwrap(), "does not exist"),
        (|path| fs::write(path, "ONE\ntwo\nthree\nfour\n").unwrap(), "beginning has changed"),
    ] {
        let error = restart_after(change);
        assert_eq!(error.kind, ErrorKind::FixInput);
        assert!(error.message.contains("a.jsonl") && error.message.contains(word), "{error}");
    }
}

#[test]
fn a_torn_gzip_file_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let whole = gzip(b"one\ntwo\nthree\n", 1000);
    fs::write(folder.path().join("a.jsonl.gz"), &whole[..whole.len() - 6]).unwrap();
    let source = witness(folder.path());
    let error = Driven::new(&source, discover(&source).unwrap()).unwrap().drain(10).unwrap_err();
    assert!(error.message.contains("a.jsonl.gz is not a whole gzip file"), "{error}");
}

#[test]
fn many_files_are_read_with_few_of_them_open() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..300 {
        fs::write(folder.path().join(format!("{index:04}.jsonl")), "1\n2\n3\n4\n5\n").unwrap();
    }
    let source = witness(folder.path()).chunk_bytes(3);
    assert_eq!(read_with_restarts(&source, 2, 7).len(), 1_500);
}

#[test]
fn json_lines_fail_on_a_bad_line_or_skip_and_count_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.jsonl"), "[1,\"a\"]\n\nnonsense\n[2,\"b\"]\r\n").unwrap();
    let source = FileSource::<(u64, String)>::json_lines(folder.path());
    let error = Driven::new(&source, discover(&source).unwrap()).unwrap().drain(10).unwrap_err();
    assert_eq!(error.kind, ErrorKind::FixInput);
    assert!(error.message.contains("a.jsonl, line 3 (byte 9)"), "{error}");
    let source = source.bad_lines(BadLines::Skip);
    let rows = Driven::new(&source, discover(&source).unwrap()).unwrap().drain(10).unwrap();
    assert_eq!(rows, [(1, "a".to_string()), (2, "b".to_string())]);
    assert_eq!(source.format().skipped(), 1);
}
