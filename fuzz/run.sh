#!/bin/bash
# Fuzzes one of the targets (importer, settings, data; see src) for so many seconds, on stable Rust, with its seeds and, for
# the importer, ONNX's operator tests where they are found (ONNX_NODE_TESTS=…/onnx/backend/test/data/node).
#
#   fuzz/run.sh TARGET SECONDS
#
# Findings are left in fuzz/findings/TARGET; one that is understood and mended goes to tests/networks/hostile, which
# `make test` replays. The corpus that has grown is kept in fuzz/corpus and not in the repository.
set -euo pipefail
cd "$(dirname "$0")"
target=${1:?usage: fuzz/run.sh TARGET SECONDS}
seconds=${2:?usage: fuzz/run.sh TARGET SECONDS}
# A folder of its own: what is instrumented must not be taken for what is not.
export CARGO_TARGET_DIR=$PWD/target RUSTC_WRAPPER=$PWD/instrument.sh RAYON_NUM_THREADS=1
# The dependencies are those of kdc.
cp ../Cargo.lock Cargo.lock
cargo build --release --bin "$target"
mkdir -p "corpus/$target" "findings/$target"
more=()
case $target in
  importer)
    more=(../tests/networks/hostile)
    if [ -n "${ONNX_NODE_TESTS:-}" ]; then
      mkdir -p onnx-cases
      for case in "$ONNX_NODE_TESTS"/*/model.onnx; do
        cp -n "$case" "onnx-cases/$(basename "$(dirname "$case")").onnx"
      done
      more+=(onnx-cases)
    fi
    ;;
  settings) more=(../tests/networks/hostile/settings ../crates/train/src/distill/presets) ;;
  data) more=(../tests/networks/hostile/data) ;;
esac
# Each finding ends one process; the fuzzer goes on in another.
exec "target/release/$target" -fork=1 -ignore_crashes=1 -ignore_timeouts=1 -ignore_ooms=1 -timeout=5 -rss_limit_mb=2048 \
  -max_len=65536 -max_total_time="$seconds" -artifact_prefix="findings/$target/" -print_final_stats=1 \
  "corpus/$target" "seeds/$target" "${more[@]}"
