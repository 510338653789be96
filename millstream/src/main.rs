//! The `millstream` program: the command line over the built-in jobs.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> millstream::Result<()> {
    millstream::main(millstream::jobs::jobs())
}
