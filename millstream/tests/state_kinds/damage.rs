//! A local copy of the state whose bytes have changed on the disk: what it had comes from the checkpoint store.

use std::path::PathBuf;

use super::*;

/// Keeps a text for each key, and tells the one before.
#[derive(Clone)]
struct LastText(ValueState<u64, String>);

impl KeyedProcessFunction for LastText {
    type Key = u64;
    type In = u64;
    type Out = (u64, u64, Option<String>);

    fn states(&mut self, visit: StateVisitor<'_, u64>) {
        visit(&mut self.0);
    }

    fn process(&mut self, n: u64, cx: &mut KeyedContext<'_, u64, Self::Out>) -> Result<(), PortError> {
        let before = self.0.get(cx).cloned();
        self.0.set(cx, text(n));
        let key = *cx.key();
        cx.emit((key, n, before));
        Ok(())
    }
}

fn text(n: u64) -> String {
    format!("a text to be found on the disk {n}")
}

/// The data files of LMDB below a folder.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let below = entries.flat_map(|path| if path.is_dir() { data_files(&path) } else { vec![path] });
    below.filter(|path| path.ends_with("data.mdb")).collect()
}

/// Flips a bit in every text; answers how many.
fn damage(file: &Path) -> usize {
    let wanted = b"a text to be found";
    let mut bytes = std::fs::read(file).expect("reads");
    let places: Vec<usize> =
        bytes.windows(wanted.len()).enumerate().filter(|(_, window)| window == wanted).map(|(at, _)| at).collect();
    places.iter().for_each(|at| bytes[*at] ^= 1);
    std::fs::write(file, bytes).expect("writes");
    places.len()
}

#[test]
fn a_job_whose_local_state_is_damaged_goes_on_from_the_checkpoint_store() {
    let dir = tempfile::tempdir().expect("a folder");
    let (tap, target) = (Tap::new(2), Target::<(u64, u64, Option<String>)>::new());
    let build = || {
        let env = environment(2);
        env.from_source("numbers", tapped(&tap, |split, n| split * 1_000 + n))
            .uid("numbers")
            .key_by(|n| n % 100)
            .process(LastText(ValueState::new("last")))
            .uid("last")
            .sink_to("out", MemorySink(Arc::clone(&target)))
            .uid("out");
        env
    };
    // Nothing stays in memory: what is read comes from the local state.
    let options = LaunchOptions { state_memory: Some(0), ..options(dir.path()) };
    run(async {
        let launched = start(&build(), options.clone()).await;
        tap.release_all(300);
        until(async || target.len() == 600).await;
        let completed = report(&launched.handle).await.checkpoints.counts().completed;
        until_completed(&launched.handle, completed + 3).await;
        launched.handle.trigger(Purpose::StopWithSavepoint, false, None).await.expect("stopped");
        finish(&launched).await;
    });
    let damaged: usize = data_files(dir.path()).iter().map(|file| damage(file)).sum();
    assert!(damaged >= 100, "every key has a text: {damaged}");
    run(async {
        let launched = launch_when_free(&build(), &options).await;
        tap.release_all(600);
        until(async || target.len() == 1_200).await;
        let report = report(&launched.handle).await;
        assert!(report.restarts > 0, "the damage was met");
        let failures = format!("{:?}", report.exceptions);
        assert!(failures.contains("is damaged") && failures.contains("loaded anew"), "{failures}");
        let restarts = report.restarts;
        // Once it is loaded anew it serves again.
        let completed = report.checkpoints.counts().completed;
        until_completed(&launched.handle, completed + 2).await;
        tap.release_all(900);
        tap.close_all();
        finish(&launched).await;
        assert_eq!(self::report(&launched.handle).await.restarts, restarts);
    });
    let mut rows = target.rows();
    rows.sort();
    let mut wanted = Vec::new();
    for key in 0..100 {
        // Splits are read in any order, but each key has one record of each split in turn: compare the texts as sets.
        wanted.extend((0..2).flat_map(|split| (0..900).map(move |n| split * 1_000 + n)).filter(|n| n % 100 == key));
    }
    let mut seen: Vec<u64> = rows.iter().map(|(_, n, _)| *n).collect();
    seen.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    for key in 0..100 {
        // Every text is told once, but for the last of the key, and nothing is told before the first.
        let of_key = rows.iter().filter(|row| row.0 == key);
        let told: BTreeSet<_> = of_key.clone().filter_map(|row| row.2.clone()).collect();
        assert_eq!((told.len(), of_key.filter(|row| row.2.is_none()).count()), (17, 1), "key {key}");
    }
}
