#!/usr/bin/env python3
"""Time to reach an accuracy: kdc beside a PyTorch distillation of the same student on the same schedule.

    compare.py KDC [--data FOLDER] [--epochs N] [--accuracy SHARE] [--engine auto|tract|onnxruntime] [--start teacher]

The student is derived without a search among kinds, and both begin with random weights (--start teacher: kdc with the
teacher's, which is its default). Three runs after each other on an otherwise idle machine: PyTorch, kdc with an empty cache (the teacher is asked), kdc
again at another learning rate (its answers are there). FOLDER holds Fashion-MNIST in IDX files. All times are measured
from the start of the process to the end of the first epoch with that validation accuracy. Needs the packages of peers.txt.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MODEL = HERE.parent.parent / "models/fashion/teacher.onnx"


def peer(plan, options):
    command = [sys.executable, HERE / "peer.py", MODEL, plan, options.data, str(options.epochs)]
    lines = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.splitlines()
    epochs = [tuple(map(float, line.split())) for line in lines if not line.startswith("test")]
    return epochs, float(lines[-1].split()[1])


def kdc(scratch, rate, options):
    out = scratch / f"out-{rate}"
    command = [
        options.kdc, "compile", MODEL, "--target", "raspberry-pi", "--data", options.data, "--recipe", "labelled",
        "--epochs", options.epochs, "--batch-size", 128, "--lr", rate, "--no-search", "--start", options.start, "--no-build",
        "--engine", options.engine, "--emit", "onnx", "--out", out,
    ]
    start = time.perf_counter()
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")}
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    epochs = []
    for line in process.stderr:
        if found := re.search(r"epoch \d+/\d+.*validation accuracy ([0-9.]+)%", line):
            epochs.append((time.perf_counter() - start, float(found[1]) / 100))
    process.wait()
    # The student takes what the teacher takes.
    shutil.copy(MODEL.with_suffix(".toml"), out / "student.toml")
    evaluation = subprocess.run(
        list(map(str, [options.kdc, "eval", out / "student.onnx", "--data", options.data])), capture_output=True, text=True
    )
    return epochs, out, evaluation.stdout.splitlines()[0] if evaluation.stdout else evaluation.stderr


def reached(epochs, accuracy):
    return next((seconds for seconds, share in epochs if share >= accuracy), float("nan"))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("kdc", type=pathlib.Path)
    options.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    options.add_argument("--epochs", type=int, default=6)
    options.add_argument("--accuracy", type=float, default=0.91)
    options.add_argument("--engine", default="auto")
    options.add_argument("--start", default="random")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        cold, out, cold_test = kdc(scratch, 0.1, options)
        cached, _, cached_test = kdc(scratch, 0.09, options)
        theirs, test = peer(out / "plan.toml", options)
    print(f"PyTorch:      {theirs} test {test}")
    print(f"kdc:          {cold} {cold_test}")
    print(f"kdc, cached:  {cached} {cached_test}")
    whole = reached(theirs, options.accuracy)
    print(f"\nseconds to a validation accuracy of {options.accuracy:.1%}, measured; share of PyTorch's")
    for name, epochs in [("PyTorch", theirs), ("kdc", cold), ("kdc, labels cached", cached)]:
        seconds = reached(epochs, options.accuracy)
        print(f"{name:<20} {seconds:8.1f} {seconds / whole:6.2f}   all epochs {epochs[-1][0]:8.1f} {epochs[-1][0] / theirs[-1][0]:6.2f}")


if __name__ == "__main__":
    main()
