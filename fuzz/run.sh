#!/bin/bash
# Fuzzes the importer for so many seconds, on stable Rust, with the seeds of this folder and, where they are found, ONNX's
# operator tests (ONNX_NODE_TESTS=…/onnx/backend/test/data/node).
#
#   fuzz/run.sh SECONDS
#
# Findings are left in fuzz/findings; one that is understood and mended goes to tests/networks/hostile, which
# `make test` replays. The corpus that has grown is kept in fuzz/corpus and not in the repository.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?usage: fuzz/run.sh SECONDS}
# LLVM's own coverage instrumentation, as cargo-fuzz turns it on, less what wants a nightly compiler.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target named, flags are for the fuzzer and not for build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$host"
mkdir -p corpus findings
target=${CARGO_TARGET_DIR:-target}/$host/release/kdc-fuzz
more=()
if [ -n "${ONNX_NODE_TESTS:-}" ]; then
  mkdir -p onnx-cases
  for case in "$ONNX_NODE_TESTS"/*/model.onnx; do
    cp -n "$case" "onnx-cases/$(basename "$(dirname "$case")").onnx"
  done
  more=(onnx-cases)
fi
# Each finding ends one process; the fuzzer goes on in another.
exec "$target" -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -timeout=5 -rss_limit_mb=2048 \
  -max_len=65536 -max_total_time="$seconds" -artifact_prefix=findings/ -print_final_stats=1 \
  corpus seeds ../tests/networks/hostile "${more[@]}"
