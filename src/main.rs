/// Tensors come and go by the megabyte, on every thread: glibc maps and unmaps each, which took a fifth of training.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    kdc::exec::keep_memory();
    kdc::cli::main()
}
