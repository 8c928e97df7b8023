#!/bin/sh
# Stands before rustc: kdc, and crates that read files for it and for no build script, are compiled with LLVM's own coverage
# instrumentation, as cargo-fuzz turns it on, less what wants a nightly compiler; the others as ever.
crate=
for argument; do
  [ "$crate" = --crate-name ] && crate=$argument && break
  case $argument in --crate-name) crate=$argument ;; esac
done
case $crate in
  kdc | importer | settings | data | png | image | csv | csv_core | parquet)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
