#!/usr/bin/env bash
# Installs what `kdc compile --target raspberry-pi` needs to build and to run the program here: a Rust standard library
# for aarch64, a linker with its C library, and qemu. Does nothing where everything is present.
set -euo pipefail

triple=aarch64-unknown-linux-gnu
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
has_std() { [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/$triple/lib" ]; }

packages=()
command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
command -v qemu-aarch64 >/dev/null || packages+=(qemu-user)

# rustup's std if it can be fetched, or else Debian's own compiler with its std beside it.
if ! has_std rustc && ! { [ -x /usr/bin/rustc ] && has_std /usr/bin/rustc; }; then
  if ! rustup target add "$triple"; then
    echo "rustup cannot fetch the standard library of $triple: taking Debian's compiler"
    dpkg --print-foreign-architectures | grep -qx arm64 || as_root dpkg --add-architecture arm64
    packages+=(rustc-web libstd-rust-web-dev:arm64)
  fi
fi

if [ "${#packages[@]}" -gt 0 ]; then
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
