"""What a table of methods is made of: rows from the runs of their seeds, and the results that the documentation is made from."""

import datetime
import json
import statistics

HEAD = "| method | accuracy | share of the gap closed | calibration error | seconds |\n| --- | ---: | ---: | ---: | ---: |"


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def score(run):
    """What `kdc distill --json` says of the student's answers: accuracy, or of numbers the share of the variance explained."""
    judged = run["distilled"]
    return judged["explained_variance"] if judged["accuracy"] is None else judged["accuracy"]


def row(name, runs, below, above):
    """Of runs by seed. `below`: scores of labels alone by the same seeds; `above`: the teacher's, or None where there is no
    gap between the two."""
    wrong = [run["error"] for run in runs if "error" in run]
    if wrong:
        return {"name": name, "error": wrong[0]}
    right = [score(run) for run in runs]
    shares = [(a - b) / (above - b) for a, b in zip(right, below)] if above else None
    errors = [run["distilled"]["calibration_error"] for run in runs]
    return {
        "name": name, "accuracy": round(statistics.mean(right), 5), "deviation": round(spread(right), 5),
        "closed": shares and round(statistics.mean(shares), 3), "closed_deviation": shares and round(spread(shares), 3),
        "calibration_error": None if None in errors else round(statistics.mean(errors), 4),
        "seconds": round(statistics.mean(run["seconds"] for run in runs), 1), "seeds": len(runs),
    }  # fmt: skip


def line(row):
    """For people."""
    if "error" in row:
        return f"| {row['name']} | {row['error']} | | | |"
    closed = "" if row["closed"] is None else f"{100 * row['closed']:.0f} ± {100 * row['closed_deviation']:.0f}%"
    error = "" if row["calibration_error"] is None else f"{100 * row['calibration_error']:.1f}%"
    accuracy = f"{100 * row['accuracy']:.2f} ± {100 * row['deviation']:.2f}%"
    return f"| {row['name']} | {accuracy} | {closed} | {error} | {row['seconds']:.1f} |"


def put(path, name, teacher, below, rows):
    """Puts a set into the file of results. Rows that it had and that are not among these stay, and so does what it says of
    the teacher and of labels alone where that is of more seeds."""
    every = json.loads(path.read_text()) if path.is_file() else {}
    before = every.get(name, {"seeds": 0, "rows": []})
    head = {"teacher": teacher, "labels_only": round(statistics.mean(below), 5), "deviation": round(spread(below), 5),
            "seeds": len(below)}  # fmt: skip
    new = {row["name"]: row for row in rows}
    kept = [new.pop(row["name"], row) for row in before["rows"]]
    head = head if len(below) >= before["seeds"] else {}
    every[name] = {**before, **head, "date": datetime.date.today().isoformat(), "rows": [*kept, *new.values()]}
    path.write_text(json.dumps(every, indent=1) + "\n")
