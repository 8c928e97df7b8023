# Everything a newcomer needs, on a Debian machine with rustup. Each target does its own set-up.
#
#   make demo      compile the sample teacher for a Raspberry Pi and show the report
#   make test      build everything and run the tests
#   make test-all  the same, and the checks that want ONNX Runtime, the ARM toolchain or a Vulkan driver
#                  (where all of that is there, `KDC_REQUIRE=all make test` fails on a check that is left out)
#   make setup     install the cross toolchain and the emulator (Debian packages, about 2 minutes)
#   make lint      formatting and lints, as in CI
#   make docs      build the book into target/book (installs mdBook from crates.io where there is none, some minutes)

SHELL := /bin/bash
CARGO ?= cargo
VENV  ?= target/venv
RUNTIME ?= target/onnxruntime
TOOLS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kdc-tools
MDBOOK ?= $(or $(shell command -v mdbook),$(TOOLS)/bin/mdbook)

.PHONY: demo test test-all setup lint docs compiler venv runtime vulkan

demo: setup
	$(CARGO) run --release --quiet --bin kdc -- compile models/fashion/teacher.onnx --target raspberry-pi

test: compiler
	$(CARGO) test --release --workspace

# What the plain tests skip for want of ONNX Runtime, a cross toolchain, the emulator or a GPU runs here.
test-all: setup venv vulkan
	export KDC_REQUIRE=all ORT_DYLIB_PATH="$$(ls $(abspath $(VENV))/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.* | head -1)" \
	  KDC_PYTHON="$(abspath $(VENV))/bin/python3"; \
	$(CARGO) test --release --workspace && \
	$(CARGO) test --release --test book -- --ignored && \
	$(CARGO) bench --bench training -- --test
	$(CARGO) build --release --features burn-source --bin kdc && \
	  $(VENV)/bin/python3 benches/burn_source.py $${CARGO_TARGET_DIR:-target}/release/kdc tests/networks/families \
	    efficientnet gru-kws shufflenetv2 vit
	$(VENV)/bin/python3 benches/exports.py $${CARGO_TARGET_DIR:-target}/release/kdc fuzz/seeds tests/networks
	$(CARGO) test --release -p kdc-exec --features wgpu --lib device::
	@if [ -z "$$KDC_DATA" ]; then echo "skipped: whole models; KDC_DATA names no folder with models/ in it"; else \
	  $(CARGO) build --release --bin kdc && conformance=$$($(CARGO) bench --bench conformance --no-run 2>&1 | \
	    sed -n 's/.*Executable .*(\(.*\)).*/\1/p') && \
	  $(VENV)/bin/python3 benches/models.py $${CARGO_TARGET_DIR:-target}/release/kdc $$conformance \
	    $$KDC_DATA/models/families $$KDC_DATA/models; fi

setup: compiler
	bash targets/setup.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

docs: compiler
	@command -v $(MDBOOK) >/dev/null || $(CARGO) install mdbook --version 0.5.4 --locked --no-default-features \
	  --features search --root $(TOOLS)
	$(MDBOOK) build docs

# Dependencies are built from source; a few of them want a linker.
compiler:
	@command -v cc >/dev/null || { sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq gcc libc6-dev; }

# Where no GPU is, Mesa computes in its place.
vulkan:
	@ls /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1 || { sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq mesa-vulkan-drivers; }

# ONNX Runtime alone, in the version of the benchmarks.
runtime: $(RUNTIME)/ready
$(RUNTIME)/ready: benches/requirements.txt
	python3 -m venv $(RUNTIME) || { sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq python3-venv && python3 -m venv $(RUNTIME); }
	$(RUNTIME)/bin/pip install --quiet "$$(grep ^onnxruntime benches/requirements.txt)"
	touch $@

venv: $(VENV)/ready
$(VENV)/ready: benches/requirements.txt
	python3 -m venv $(VENV) || { sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq python3-venv && python3 -m venv $(VENV); }
	$(VENV)/bin/pip install --quiet --requirement benches/requirements.txt
	touch $@
