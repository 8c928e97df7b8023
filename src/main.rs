fn main() -> std::process::ExitCode {
    kdc::cli::main()
}
