#!/usr/bin/env python3
"""What it is worth to start a student from its teacher's weights.

    starts.py --data DATA [--target T] [--seeds 3] [--epochs 12] KDC TEACHER [-- more of kdc compile's arguments]

The same student (the teacher's network, narrower, at kdc's default budgets) is trained from the teacher's weights and
from random ones: same data, steps, loss and seeds; and from the teacher's weights again with half of the epochs, the
learning rate's schedule included. Prints the validation accuracy epoch by epoch (means over the seeds), the test
accuracies, and whether half of the steps are enough for what the random start ends with. Measured.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("kdc")
parser.add_argument("teacher")
parser.add_argument("--data", required=True)
parser.add_argument("--target", default="raspberry-pi")
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("more", nargs="*")
options = parser.parse_args()


RUNS = {
    "random": ("random", options.epochs),
    "half": ("teacher", options.epochs // 2),
    "teacher": ("teacher", options.epochs),
}


def run(start, epochs, seed, folder):
    command = [options.kdc, "compile", options.teacher, "--target", options.target, "--data", options.data, "--recipe", "labelled"]
    command += ["--no-search", "--start", start, "--seed", str(seed), "--epochs", str(epochs), "--batch-size", "128"]
    command += ["--no-build", "--emit", "onnx", "--out", str(folder), *options.more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    report = json.loads((folder / "report.json").read_text())
    rows = {row["network"]: row["accuracy"] for row in report["accuracy"]["rows"]}
    log = json.loads((folder / "train" / "log.json").read_text())
    return [float(epoch["accuracy"]) for epoch in log["history"]], rows


curves, tests, teacher = {}, {}, None
with tempfile.TemporaryDirectory() as base:
    for seed in range(options.seeds):
        for name, (start, epochs) in RUNS.items():
            curve, rows = run(start, epochs, seed, pathlib.Path(base) / f"{name}-{seed}")
            curves.setdefault(name, []).append(curve)
            student = next(value for name, value in rows.items() if "f32" in name.lower())
            tests.setdefault(name, []).append(student)
            teacher = next(value for name, value in rows.items() if name.lower() == "teacher")
            print(f"seed {seed}, {name} ({epochs} epochs): test {100 * student:.2f}%", flush=True)

mean = lambda values: sum(values) / len(values)
print(f"\nteacher {100 * teacher:.2f}% (measured)\nvalidation accuracy in percent, means over {options.seeds} seeds (measured)")
print("epoch  teacher's weights  random weights")
means = {name: [mean(epoch) for epoch in zip(*curves[name])] for name in curves}
for epoch, (a, b) in enumerate(zip(means["teacher"], means["random"]), 1):
    print(f"{epoch:5}  {100 * a:17.2f}  {100 * b:14.2f}")
reached = next((e for e, a in enumerate(means["teacher"], 1) if a >= means["random"][-1]), None)
share = f"{reached} of {options.epochs} epochs" if reached else "never"
print(f"\nthe random start's final validation accuracy is reached after {share} of the same schedule")
ends = {name: mean(tests[name]) for name in tests}
print(f"test accuracy: {100 * ends['teacher']:.2f}% against {100 * ends['random']:.2f}%, "
      f"difference {100 * (ends['teacher'] - ends['random']):+.2f} points")
print(f"with half of the steps from the teacher's weights: {100 * ends['half']:.2f}%, "
      f"difference {100 * (ends['half'] - ends['random']):+.2f} points")
