//! The end of a process that cannot do its work any more, because user code that never returns holds a thread of it, or all
//! of them. Whoever started it starts it again; its jobs go on elsewhere meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Looks so often within the time-out: a process that was stopped for a while is not taken for one that is stuck.
const LOOKS: u32 = 10;

/// Ends the process as one whose job has failed.
pub fn end_process(why: &str) {
    eprintln!("error: {why}");
    std::process::exit(1);
}

/// Ends the process when its runtime has run nothing for so long: all of its threads are in code that does not return, so
/// nothing within the runtime could notice. Looks until the runtime is gone.
pub fn watch_runtime(timeout: Duration, end_process: impl FnOnce(&str) + Send + 'static) {
    let beats = Arc::new(AtomicU64::new(0));
    let pause = timeout / LOOKS;
    let seen = Arc::downgrade(&beats);
    drop(tokio::spawn(async move {
        loop {
            beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause / 2).await;
        }
    }));
    let watch = move || {
        let (mut last, mut unchanged) = (0, 0);
        while let Some(beats) = seen.upgrade() {
            let now = beats.load(Ordering::Relaxed);
            drop(beats);
            unchanged = if now == last { unchanged + 1 } else { 0 };
            last = now;
            if unchanged >= LOOKS {
                end_process(&format!(
                    "all threads of this process have been in code that does not return for {timeout:?}, so it ends (task.cancellation.timeout); its jobs go on elsewhere, or when it is started again"
                ));
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, beside the runtime that it watches")]
            thread::sleep(pause);
        }
    };
    let spawned = thread::Builder::new().name("watchdog".to_owned()).spawn(watch);
    if let Err(error) = spawned {
        tracing::warn!("nobody will notice when all threads are stuck: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_runtime_whose_threads_are_all_stuck_is_given_up_and_one_that_runs_is_not() {
        let (told, ended) = channel::<String>();
        let (release, stuck) = channel::<()>();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("one");
        runtime.block_on(async {
            let told = told.clone();
            tokio::spawn(async move {
                watch_runtime(Duration::from_millis(200), move |why| drop(told.send(why.to_owned())))
            })
            .await
            .expect("it watches");
            tokio::time::sleep(Duration::from_millis(500)).await;
        });
        assert!(ended.try_recv().is_err(), "it ran all the time");
        runtime.spawn(async move { stuck.recv() });
        assert!(ended.recv().expect("it is noticed").contains("does not return"));
        drop(release);
    }
}
