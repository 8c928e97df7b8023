"""What the scripts beside this one share: students distilled by a recipe, seed by seed."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys


def asked(text, epochs, source=None):
    """The command line: a folder, `make` or `run`, kdc, seeds and epochs; `source`: what --source is, where there is one."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("kdc", nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=epochs)
    if source:
        parser.add_argument("--source", type=pathlib.Path, help=source)
    return parser.parse_args()


def distilled(kdc, arguments, recipe, seeds, scratch):
    """The teacher's score, the students' scores by seed, and what these are called."""
    path = scratch / "recipe.toml"
    path.write_text(recipe)
    teacher, scores, name = None, [], "accuracy"
    for seed in range(seeds):
        command = [kdc, "distill", *arguments, "--recipe", path, "--seed", seed, "--out", scratch / "student", "--json"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
        result = json.loads(done.stdout)
        name = "explained_variance" if result["distilled"]["accuracy"] is None else "accuracy"
        teacher = result["teacher"][name]
        scores.append(result["distilled"][name])
    return teacher, scores, name


def show(application, title, teacher, scores, name):
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    print(f"{application} (teacher {100 * teacher:.2f}%): {title}: {100 * statistics.mean(scores):.2f} ± {100 * spread:.2f}% "
          f"{name.replace('_', ' ')} on test samples, {len(scores)} seeds, measured", flush=True)  # fmt: skip
