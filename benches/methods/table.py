#!/usr/bin/env python3
"""What each distillation method is worth: every method and preset against labels alone, same student, data and steps.

    python benches/methods/table.py target/release/kdc mnist1d
    python benches/methods/table.py target/release/kdc mnist1d-paper    # and mnist1d-ten, mnist1d-long, mnist1d-views
    python benches/methods/table.py target/release/kdc fashion-few --data DIR   # Fashion-MNIST's four IDX files
    python benches/methods/table.py target/release/kdc fashion --data DIR
    python benches/methods/table.py target/release/kdc transfer --sidecar MNIST.toml   # see benches/data/mnist.py
    python benches/methods/table.py target/release/kdc data-free --teacher WITH_BATCH_NORMS.onnx --sidecar models/fashion/teacher.toml
    python benches/methods/table.py target/release/kdc cifar10 --teacher RESNET56.onnx --data DIR

A row: mean test accuracy over the seeds and its standard deviation, the share of the gap between labels alone and the
teacher that is closed (mean of the shares of the seeds, with their standard deviation), seconds of training. All are
measured. Rows that lost are rows. Results go to a JSON file too, and a run that is there already is not repeated.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import rows

HERE = pathlib.Path(__file__).parent
RECIPES = HERE / "recipes"

LONG = ["soft-label", "dkd", "topk-kl", "preset generations"]
TEN = [
    "soft-label", "dkd", "topk-kl", "dist", "preset best", "preset ensemble", "preset generations", "preset teacher-free",
    "several teachers, even", "several teachers, confidence", "several teachers, learned",
]  # fmt: skip


def mnist1d(student="student.onnx", epochs=60, more=(), **others):
    """A set of MNIST-1D: one of its students, from random weights."""
    folder = HERE / "mnist1d"
    arguments = ["--student", folder / student, "--start", "random", "--batch-size", "100", "--epochs", str(epochs), "--lr", "0.05"]
    return dict(teacher=folder / "teacher.onnx", arguments=[*arguments, *more], **others)


SETS = {
    "mnist1d": mnist1d(),
    # Where methods are a point apart, three seeds do not tell.
    "mnist1d-ten": mnist1d(seeds=10, rows=TEN),
    # The network of the dataset's paper as it is. Networks of 12, 16 and 25 channels, of which it is the last, had been tried
    # before it was taken.
    "mnist1d-paper": mnist1d("paper.onnx", seeds=10),
    # Four times as long, without and with views: the teacher's own augmentation, 16 views of each signal.
    "mnist1d-long": mnist1d(epochs=240, rows=LONG),
    "mnist1d-views": mnist1d(
        epochs=240, more=["--sidecar", HERE / "mnist1d" / "views.toml", "--views", "16"], rows=LONG,
    ),
    # A student that is too small for the task: at 1.5M labels alone leave a gap of two points only.
    "fashion": dict(arguments=["--max-macs", "300k", "--no-search", "--epochs", "4", "--batch-size", "128", "--start", "random"]),
    "fashion-few": dict(
        arguments=["--max-macs", "1.5M", "--no-search", "--epochs", "6", "--batch-size", "128", "--start", "random"],
    ),
    # What is compared is a student from nothing with one of the teacher's weights, which is what transfer is about.
    "transfer": dict(
        arguments=["--max-macs", "1.5M", "--no-search", "--epochs", "10", "--batch-size", "32"], nothing=["--start", "random"],
    ),
    # Not one image: what labels alone give is of the sample's 6,000.
    "data-free": dict(arguments=["--no-search"], rows=["preset data-free"], is_gap=False),
    # DIR: train and test, of which train has 1,000 images a class.
    "cifar10": dict(arguments=["--no-search", "--epochs", "10", "--batch-size", "128", "--start", "random"]),
}  # fmt: skip


def recipes(kdc, which, only):
    """Name and text of every method's own recipe, of the presets, and of those beside this script for this set."""
    known = json.loads(subprocess.run([kdc, "methods", "--json"], capture_output=True, text=True, check=True).stdout)
    texts = {m["name"]: m["recipe"] for m in known["methods"] if m["name"] != "hard-label"}
    texts.update({f"preset {p['name']}": p["recipe"] for p in known["presets"]})
    folder = RECIPES / which if (RECIPES / which).is_dir() else RECIPES / which.split("-")[0]
    own = {path.stem: path.read_text() for path in sorted(folder.glob("*.toml"))}
    texts.update(own)
    only = only or SETS[which].get("rows")
    if which not in ("mnist1d", "mnist1d-paper") and not only:
        best = {"preset best": texts["preset best"]} if which in ("fashion", "cifar10") else {}
        return own | best
    return {name: text for name, text in texts.items() if not only or name in only}


def run(kdc, arguments, out):
    """One training; what it came to."""
    result = subprocess.run([kdc, "distill", *map(str, arguments), "--out", out, "--json"], capture_output=True, text=True)
    if result.returncode != 0:
        return {"error": result.stderr.strip().splitlines()[-1] if result.stderr.strip() else f"exit {result.returncode}"}
    return json.loads(result.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kdc")
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--teacher", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--sidecar", type=pathlib.Path, help="what the samples of another task are")
    parser.add_argument("--seeds", type=int, help="3, or the set's own")
    parser.add_argument("--only", nargs="*", help="these methods, presets ('preset NAME') or recipes alone")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("methods"))
    parser.add_argument("--results", type=pathlib.Path, help="a JSON file that the rows are put into, for the documentation")
    given = parser.parse_args()
    chosen = SETS[given.set]
    teacher = given.teacher or chosen.get("teacher") or HERE.parent.parent / "models" / "fashion" / "teacher.onnx"
    common = [teacher, *chosen["arguments"]] + (["--data", given.data] if given.data else [])
    common += ["--sidecar", given.sidecar] if given.sidecar else []
    given.seeds = given.seeds or chosen.get("seeds", 3)
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / f"{given.set}.json"
    results = json.loads(kept.read_text()) if kept.is_file() else {}

    def result(name, seed, extra):
        key = f"{name} {seed}"
        if key not in results:
            results[key] = run(given.kdc, [*common, "--seed", seed, *extra], given.out / f"{given.set} student")
            kept.write_text(json.dumps(results, indent=1))
        return results[key]

    few = {
        "fashion-few": "[data]\nlabels = 1000\nlabelled-share = 1.0\n",
        "transfer": "[data]\nnew-classes = true\nlabels = 500\nlabelled-share = 1.0\n",
    }.get(given.set, "")  # fmt: skip
    baselines = []
    for seed in range(given.seeds):
        path = given.out / f"{given.set} labels.toml"
        path.write_text(f'title = "labels only"\n{few}[[term]]\nmethod = "hard-label"\n')
        extra = (["--recipe", path] if few else ["--labels-only"]) + chosen.get("nothing", [])
        baselines.append(result("labels only", seed, extra))
    # Of other classes in a transfer.
    above = (baselines[0]["teacher"] or {}).get("accuracy")
    below = [b["distilled"]["accuracy"] for b in baselines]
    print(f"{given.set}: {baselines[0]['student']}, {given.seeds} seeds, measured")
    teachers = f"teacher {100 * above:.2f}%" if above else "teacher of other classes"
    print(f"{teachers}, labels only {100 * statistics.mean(below):.2f} ± {100 * rows.spread(below):.2f}%")
    print(rows.HEAD)
    made = []
    for name, text in recipes(given.kdc, given.set, given.only).items():
        # Of its own name: another table may be made in the same folder.
        path = given.out / f"{given.set} {name}.toml"
        path.write_text(text)
        runs = [result(name, seed, ["--recipe", path]) for seed in range(given.seeds)]
        made.append(rows.row(name, runs, below, above if chosen.get("is_gap", True) else None))
        print(f"  {rows.line(made[-1])}", file=sys.stderr, flush=True)
    for row in sorted(made, key=lambda row: -row.get("accuracy", -1.0)):
        print(rows.line(row))
    if given.results:
        rows.put(given.results, given.set, above, below, made)


main()
