//! What every store of blobs must do, whatever it is made of.

use std::sync::Arc;
use std::sync::Barrier;
use std::thread;

use millstream_runtime::ports::ErrorKind;
use millstream_runtime::ports::store::{BlobStore, Created};
use millstream_state::blob::object::PART_BYTES;
use millstream_state::blob::{LocalBlobs, MemoryBlobs};
use tempfile::TempDir;

use crate::s3_server;

/// What it is made of, and the store.
type Named = (&'static str, Arc<dyn BlobStore>);

/// A new, empty store of every kind. The folder goes with the last one.
fn stores() -> (TempDir, Vec<Named>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut stores: Vec<Named> = vec![
        ("folder", Arc::new(LocalBlobs::open(folder.path().join("a/b")).expect("makes the folder"))),
        ("memory", Arc::new(MemoryBlobs::new())),
    ];
    if let Some(server) = s3_server::shared() {
        for (name, prefix) in [("S3", ""), ("S3, below a prefix", "a/b")] {
            let location = server.location(prefix);
            stores.push((name, server.stores().open_tried(&location, "trial").expect("can be used")));
        }
    }
    (folder, stores)
}

fn of_all_kinds(test: impl Fn(&str, &Arc<dyn BlobStore>)) {
    let (_folder, stores) = stores();
    for (name, blobs) in &stores {
        test(name, blobs);
    }
}

#[test]
fn blobs_are_written_read_listed_and_deleted() {
    of_all_kinds(|name, blobs| {
        blobs.put("jobs/x/one", &[b"ab", b"", b"cd"]).expect(name);
        assert_eq!(blobs.get("jobs/x/one").expect(name), Some(b"abcd".to_vec()), "{name}");
        assert_eq!(blobs.get("jobs/x/none").expect(name), None, "{name}");
        blobs.put("jobs/x/one", &[b"replaced"]).expect(name);
        assert_eq!(blobs.get("jobs/x/one").expect(name), Some(b"replaced".to_vec()), "{name}");
        blobs.put("jobs/y/two", &[]).expect("an empty blob");
        assert_eq!(blobs.get("jobs/y/two").expect(name), Some(Vec::new()), "{name}");
        assert_eq!(blobs.list("jobs/").expect(name), ["jobs/x/one", "jobs/y/two"], "{name}");
        assert_eq!(blobs.list("jobs/x").expect(name), ["jobs/x/one"], "{name}");
        assert_eq!(blobs.list("job").expect(name), Vec::<String>::new(), "{name}: prefixes are whole names");
        assert_eq!(blobs.list("nothing").expect(name), Vec::<String>::new(), "{name}");
        blobs.delete("jobs/x/one").expect(name);
        blobs.delete("jobs/x/one").expect("deleting twice is fine");
        assert_eq!(blobs.list("jobs").expect(name), ["jobs/y/two"], "{name}");
    });
}

#[test]
fn a_range_is_read_whole_or_refused() {
    of_all_kinds(|name, blobs| {
        blobs.put("a/blob", &[b"abcd"]).expect(name);
        assert_eq!(blobs.get_range("a/blob", 1, 2).expect(name), b"bc", "{name}");
        assert_eq!(blobs.get_range("a/blob", 0, 4).expect(name), b"abcd", "{name}");
        assert_eq!(blobs.get_range("a/blob", 2, 0).expect(name), b"", "{name}");
        for (offset, length) in [(1, 4), (4, 1), (10, 4), (u64::MAX, 2)] {
            let error = blobs.get_range("a/blob", offset, length).expect_err("short");
            assert!(error.message.contains("shorter") && error.kind == ErrorKind::GiveUp, "{name}: {error}");
        }
        let error = blobs.get_range("a/none", 0, 1).expect_err("missing");
        assert!(error.message.contains("does not exist") && error.kind == ErrorKind::GiveUp, "{name}: {error}");
    });
}

#[test]
fn everything_below_a_prefix_goes_at_once() {
    of_all_kinds(|name, blobs| {
        for path in ["a/x/1", "a/x/y/2", "a/xy/3", "b/4"] {
            blobs.put(path, &[b"content"]).expect(name);
        }
        blobs.delete_all("a/x").expect(name);
        blobs.delete_all("a/x").expect("nothing is left to delete");
        let left: Vec<String> = ["a", "b"].iter().flat_map(|folder| blobs.list(folder).expect(name)).collect();
        assert_eq!(left, ["a/xy/3", "b/4"], "{name}");
    });
}

#[test]
fn many_are_deleted_together_whether_they_are_there_or_not() {
    of_all_kinds(|name, blobs| {
        for path in ["a/1", "a/2", "b/3"] {
            blobs.put(path, &[b"content"]).expect(name);
        }
        let paths = ["a/1", "a/none", "b/3"].map(str::to_string);
        let results = blobs.delete_each(&paths);
        assert!(results.len() == 3 && results.iter().all(Result::is_ok), "{name}: {results:?}");
        assert!(blobs.delete_each(&[]).is_empty(), "{name}");
        assert_eq!(blobs.list("a").expect(name), ["a/2"], "{name}");
        assert_eq!(blobs.list("b").expect(name), Vec::<String>::new(), "{name}");
    });
}

#[test]
fn only_the_first_of_two_creators_wins() {
    of_all_kinds(|name, blobs| {
        assert_eq!(blobs.put_if_absent("log/1", b"first").expect(name), Created::Yes, "{name}");
        assert_eq!(blobs.put_if_absent("log/1", b"second").expect(name), Created::AlreadyExists, "{name}");
        assert_eq!(blobs.get("log/1").expect(name), Some(b"first".to_vec()), "{name}");
    });
}

#[test]
fn of_many_who_create_at_the_same_time_exactly_one_wins() {
    const WRITERS: usize = 6;
    of_all_kinds(|name, blobs| {
        for round in 0..20 {
            let path = format!("log/{round}");
            let start = Barrier::new(WRITERS);
            let winners: Vec<String> = thread::scope(|scope| {
                let writers: Vec<_> = (0..WRITERS)
                    .map(|writer| {
                        let (blobs, start, path) = (Arc::clone(blobs), &start, &path);
                        scope.spawn(move || {
                            let mine = format!("writer {writer}");
                            start.wait();
                            match blobs.put_if_absent(path, mine.as_bytes()) {
                                Ok(Created::Yes) => Some(mine),
                                // Whoever does not know reads, as the log does.
                                Ok(Created::AlreadyExists) => None,
                                Err(_) => {
                                    let found = blobs.get(path).expect("reads");
                                    (found.as_deref() == Some(mine.as_bytes())).then_some(mine)
                                }
                            }
                        })
                    })
                    .collect();
                writers.into_iter().filter_map(|writer| writer.join().expect("it does not panic")).collect()
            });
            assert_eq!(winners.len(), 1, "{name}, round {round}: {winners:?}");
            assert_eq!(blobs.get(&path).expect(name), Some(winners[0].clone().into_bytes()), "{name}");
        }
    });
}

#[test]
fn a_large_blob_goes_in_parts_and_comes_back_whole() {
    of_all_kinds(|name, blobs| {
        // A small first piece, a cut within the second, and a rest.
        let large: Vec<u8> = (0..2 * PART_BYTES + 5).map(|n| (n / 7) as u8).collect();
        blobs.put("a/large", &[b"head", &large]).expect(name);
        let back = blobs.get("a/large").expect(name).expect("there");
        assert!(back.len() == large.len() + 4 && back.starts_with(b"head") && back[4..] == large[..], "{name}");
        let around = blobs.get_range("a/large", PART_BYTES as u64 - 2, 4).expect(name);
        assert_eq!(around, back[PART_BYTES - 2..PART_BYTES + 2], "{name}");
    });
}

/// Names with characters that mean something in an address or a query.
#[test]
fn unusual_names_are_kept() {
    of_all_kinds(|name, blobs| {
        let paths = ["a/with space", "a/with+plus", "a/100%", "a/ünï", "a/q?x=1&y=2", "a/hash#tag"];
        for path in paths {
            blobs.put(path, &[path.as_bytes()]).expect(name);
            assert_eq!(blobs.get(path).expect(name), Some(path.as_bytes().to_vec()), "{name}: {path}");
        }
        let mut expected: Vec<String> = paths.map(str::to_string).to_vec();
        expected.sort_unstable();
        assert_eq!(blobs.list("a").expect(name), expected, "{name}");
    });
}

#[test]
fn a_name_that_leaves_the_store_is_refused() {
    let (_folder, stores) = stores();
    for (name, blobs) in stores.iter().filter(|(name, _)| *name != "memory") {
        assert!(blobs.put("../outside", &[b"x"]).is_err(), "{name}");
        assert!(blobs.get("a//b").is_err(), "{name}");
    }
}

/// A simulation runs blocking work inline on its only thread.
#[test]
fn calls_work_on_the_thread_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        of_all_kinds(|name, blobs| {
            blobs.put("a/b", &[b"1"]).expect(name);
            assert_eq!(blobs.put_if_absent("a/b", b"2").expect(name), Created::AlreadyExists, "{name}");
            assert_eq!(blobs.get("a/b").expect(name), Some(b"1".to_vec()), "{name}");
            assert_eq!(blobs.list("a").expect(name), ["a/b"], "{name}");
        });
    });
}
