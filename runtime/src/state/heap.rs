//! How much heap the entries of a table own. That cannot be asked of a type, so a few entries are encoded now and then.

use super::entries::Entries;

/// Entries that one sample encodes at most.
const SAMPLE: usize = 16;
/// Bytes after which a sample ends: large values are few, and tell enough.
const SAMPLE_BYTES: usize = 64 << 10;
/// What an allocation costs beside what was asked for.
const ALLOCATION: usize = 16;

/// The heap of an average entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeapEstimate {
    /// Something in an entry is dropped, so it probably owns memory.
    owns: bool,
    mean_bytes: usize,
}

impl HeapEstimate {
    pub(super) fn of<T>() -> Self {
        Self { owns: std::mem::needs_drop::<T>(), mean_bytes: 0 }
    }

    /// Whether entries own anything.
    #[inline]
    pub(super) fn owns(self) -> bool {
        self.owns
    }

    /// Takes in how large some entries are encoded; `push` is called for as many as the sample takes.
    pub(super) fn sample<E>(&mut self, entries: impl Iterator<Item = E>, mut push: impl FnMut(&mut Entries, E)) {
        let mut encoded = Entries::default();
        for entry in entries.take(SAMPLE) {
            push(&mut encoded, entry);
            if encoded.as_bytes().len() > SAMPLE_BYTES {
                break;
            }
        }
        if encoded.is_empty() {
            return;
        }
        // In memory numbers take more, and vectors have room to spare.
        let bytes = encoded.as_bytes().len() / encoded.len() * 3 / 2 + ALLOCATION;
        self.mean_bytes = if self.mean_bytes == 0 { bytes } else { (self.mean_bytes * 3 + bytes) / 4 };
    }

    /// What so many entries have on the heap, in bytes.
    #[inline]
    pub(super) fn bytes(self, entries: usize) -> usize {
        self.mean_bytes * entries
    }
}
