"""What the scripts beside this one share: students distilled by recipes, seed by seed, and what came of it."""

import argparse
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "methods"))
import rows


def asked(text, epochs, source=None, is_made=True):
    """The command line: a folder, `make` or `run` where a script makes its teacher itself, kdc, seeds and epochs; `source`:
    what --source is, where there is one."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    if is_made:
        parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("kdc", nargs="?" if is_made else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--results", type=pathlib.Path, help="a JSON file that the rows are put into, for the documentation")
    if source:
        parser.add_argument("--source", type=pathlib.Path, help=source)
    return parser.parse_args()


def compare(given, name, arguments, recipes):
    """The students of each recipe, by seed: the first learns without the teacher, the others are held against it."""
    made, teacher, below = [], None, None
    for title, text in recipes.items():
        done = [distilled(given.kdc, arguments, text, seed, given.out) for seed in range(given.seeds)]
        below = below or [rows.score(run) for run in done]
        what = "explained variance" if done[0]["distilled"]["accuracy"] is None else "accuracy"
        teacher = rows.score({"distilled": done[0]["teacher"]})
        row = rows.row(title, done, below, teacher)
        print(f"{name} (teacher {100 * teacher:.2f}%): {title}: {100 * row['accuracy']:.2f} ± {100 * row['deviation']:.2f}% {what} "
              f"on test samples, {row['seeds']} seeds, measured", flush=True)  # fmt: skip
        made.append(row)
        if given.results:
            rows.put(given.results, name, teacher, below, made)


def distilled(kdc, arguments, recipe, seed, scratch):
    """One training."""
    path = scratch / "recipe.toml"
    path.write_text(recipe)
    command = [kdc, "distill", *arguments, "--recipe", path, "--seed", seed, "--out", scratch / "student", "--json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)
