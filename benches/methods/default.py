#!/usr/bin/env python3
"""What kdc's defaults are worth on MNIST-1D, by budget, and which part of it is the teacher's weights and which its answers.

    python benches/methods/default.py target/release/kdc [--seeds N] [--budgets 190k 100k …] [--epochs N]

Nothing is set but the budget (and the search is off, so that all columns train the same student): `default` starts from the
teacher's weights and learns by the recipe that short trials choose, `both` by its softened answers beside the labels without
a trial; `labels only` is the same network from random weights and labels.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

TEACHER = pathlib.Path(__file__).parent / "mnist1d" / "teacher.onnx"
NOTHING = ["--start", "random"]
ROWS = {
    "labels only": [*NOTHING, "--labels-only"],
    "its answers": [*NOTHING, "--recipe", "labelled"],
    "its weights": ["--labels-only"],
    "both": ["--recipe", "labelled"],
    "default": [],
}


def run(kdc, arguments):
    with tempfile.TemporaryDirectory() as folder:
        command = [kdc, "distill", TEACHER, "--no-search", "--json", "--out", pathlib.Path(folder) / "student", *arguments]
        return json.loads(subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kdc")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--budgets", nargs="*", default=["190k", "100k", "50k", "25k", "12k"])
    given = parser.parse_args()
    more = ["--epochs", given.epochs] if given.epochs else []
    print(f"MNIST-1D, {given.seeds} seeds, {given.epochs or 'default'} epochs, measured")
    print("| MACs at most | " + " | ".join(ROWS) + " | gap closed by default |\n|---" + "|---:" * (len(ROWS) + 1) + "|")
    for budget in given.budgets:
        right, above = {}, None
        for name, arguments in ROWS.items():
            told = [run(given.kdc, ["--max-macs", budget, "--seed", seed, *arguments, *more]) for seed in range(given.seeds)]
            right[name] = [100 * t["distilled"]["accuracy"] for t in told]
            above = 100 * told[0]["teacher"]["accuracy"]
        below = statistics.mean(right["labels only"])
        closed = (statistics.mean(right["default"]) - below) / (above - below)
        cells = [f"{statistics.mean(r):.2f} ± {statistics.stdev(r) if len(r) > 1 else 0:.2f}%" for r in right.values()]
        print(f"| {budget} | " + " | ".join(cells) + f" | {100 * closed:.0f}% of {above - below:.1f} points |", flush=True)


main()
