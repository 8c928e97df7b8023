#!/usr/bin/env python3
"""Training steps of kdc beside PyTorch's in eager mode: both in turn, medians, ratios, and whether losses agree.

    compare.py [--rounds N] [--steps N] [--threads 1,2] [NAME…]

Builds and runs `cargo bench --bench train_speed`; needs the packages of peers.txt.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
NAMES = ["resnet8", "ds-cnn", "fashion-student", "separable-1d", "transformer", "gru", "lstm", "pooled"]
WARM_UP = 5


def program() -> str:
    command = ["cargo", "bench", "--bench", "train_speed", "--no-run", "--message-format", "json"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "train_speed":
            return message["executable"]
    raise SystemExit("cargo names no program")


def run(command: list, threads: int) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("names", nargs="*", default=NAMES)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=45)
    options.add_argument("--threads", default="1,2")
    options.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/train_speed"))
    options = options.parse_args()
    if not (options.folder / f"{NAMES[-1]}.onnx").exists():
        subprocess.run([sys.executable, HERE / "peer.py", "make", options.folder], check=True, capture_output=True)
    ours = program()
    print("batch 64; medians of the median step of each round; loss: largest difference over the first 20 steps\n")
    print("| network | threads | PyTorch ms | kdc ms | images/s | PyTorch / kdc | by round | loss | PyTorch MB | kdc MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.names:
        for threads in map(int, options.threads.split(",")):
            theirs, own, ratios, differs = [], [], [], 0.0
            for _ in range(options.rounds):
                a = run([sys.executable, HERE / "peer.py", "run", options.folder, name, options.steps], threads)
                b = run([ours, "run", options.folder, name, options.steps], threads)
                one = [statistics.median(side["seconds"][WARM_UP:]) for side in (a, b)]
                theirs.append(one[0])
                own.append(one[1])
                ratios.append(one[0] / one[1])
                differs = max(abs(x - y) for x, y in list(zip(a["losses"], b["losses"]))[:20])
            ms = [1e3 * statistics.median(v) for v in (theirs, own)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"| {name} | {threads} | {ms[0]:.1f} | {ms[1]:.1f} | {64e3 / ms[1]:,.0f} "
                f"| {statistics.median(ratios):.2f} | {spread} | {differs:.0e} | {a['peak'] / 1e6:.0f} | {b['peak'] / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
