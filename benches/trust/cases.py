#!/usr/bin/env python3
"""Runs every case that once was wrong through kdc, and prints a table, a line a case.

    cases.py KDC FOLDER [NAME…] [--keep DIR]

FOLDER holds a folder for each case (teacher.onnx, teacher.toml, data.npz, perhaps student.onnx), `export` (files that are
written again as ONNX) and `random-graphs` (networks without data, which gets some made here). Each is compiled for this machine;
a student that is brought, as it is. A case is good when

- kdc ends with 0, or refuses what the table below says is to be refused, naming it, and never panics or is killed;
- the built program's outputs are within 2% of the output's range of ONNX Runtime's on the student (the file that was brought,
  or the student.onnx that was exported), or in the mean no more than 1.25 times as far off as those of ONNX Runtime's own
  static quantization, and 0.2%;
- the accuracy stated in the table is reached by the program, the agreement with the teacher by the student before
  quantization.

"off by" is the largest error over all test samples, as a share of the range. The exit status says whether all are good.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime as ort

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "backend"))
import peer

SHARE = 0.02
SECONDS = 900
CALIBRATED = 128

# What a case is given besides its files, the exit code that is right, and what the program has to reach.
CASES = {
    "quantized-teacher-without-relu": {"flags": ["--max-macs", "1M", "--max-params", "1M", "--no-search"], "agreement": 0.97},
    "concat-softmax": {"accuracy": 0.98},
    # Too small to be made eight times smaller.
    "fixed-batch-1-squeeze": {"flags": ["--max-macs", "1M", "--max-params", "1M"]},
    "fixed-batch-8": {"flags": ["--max-macs", "1M", "--max-params", "1M"]},
    "generous-budgets": {"flags": ["--max-macs", "500M", "--max-params", "5M"], "accuracy": 0.97},
    "single-sigmoid": {"refused": ["not supported"]},
    "two-outputs-aux": {"flags": ["--output", "logits"]},
    "two-outputs-embedding-first": {"flags": ["--output", "logits"]},
}
# The same teachers without the flag have to name it.
MORE = [
    ("two-outputs-aux without --output", "two-outputs-aux", {"refused": ["--output"]}),
    ("two-outputs-embedding-first without --output", "two-outputs-embedding-first", {"refused": ["--output"]}),
    ("channel-shuffle, dry run", "channel-shuffle", {"flags": ["--dry-run"], "dry": True}),
    ("channel-shuffle, distilled", "channel-shuffle", {"verb": "distill"}),
    ("tanh-mlp, distilled", "tanh-mlp", {"verb": "distill"}),
]
# Random graphs: networks with operators that no kernel is there for.
RANDOM = {"flags": ["--recipe", "labelled", "--epochs", "2", "--batch-size", "16", "--max-macs", "50M", "--max-params", "1M"],
          "codes": (0, 1), "refused": ["cannot run on the device", "no kernel", "not supported"], "may": True}


class Case:
    def __init__(self, name, teacher, sidecar, data, student=None, **how):
        self.name, self.teacher, self.sidecar, self.data, self.student = name, teacher, sidecar, data, student
        self.how = {"flags": [], "codes": (0,), "refused": [], "verb": "compile", **how}


def collected(folder, scratch, only):
    cases = []
    for teacher in sorted(folder.glob("*/teacher.onnx")):
        at = teacher.parent
        student = at / "student.onnx"
        of = lambda name, how: Case(name, teacher, at / "teacher.toml", at / "data.npz", student if student.exists() else None, **how)
        cases.append(of(at.name, CASES.get(at.name, {})))
        cases += [of(name, how) for name, base, how in MORE if base == at.name]
    npz, toml = images(scratch)
    for model in sorted((folder / "random-graphs").glob("*.onnx")):
        cases.append(Case(f"random-graphs/{model.stem}", model, toml, npz, **RANDOM))
    cases += [Case(f"export/{m.stem}", m, None, None, verb="export") for m in sorted((folder / "export").glob("*.onnx"))]
    return [c for c in cases if not only or any(c.name.startswith(name) for name in only)]


def images(scratch):
    """Pictures of four classes by brightness, for networks that came without data."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 240)
    x = (rng.integers(0, 80, (240, 1, 12, 12)) + 40 * y[:, None, None, None]).astype(np.uint8)
    np.savez(scratch / "images.npz", x=x[:160], y=y[:160], x_test=x[160:], y_test=y[160:])
    (scratch / "images.toml").write_text(
        '[data]\npath = "images.npz"\nformat = "npz"\n[input]\nlayout = "nchw"\nscale = "1/255"\nmean = [0.0]\nstd = [1.0]\n')
    return scratch / "images.npz", scratch / "images.toml"


def inputs(case, which):
    array = np.load(case.data)[which]
    return array.astype(np.float32) * np.float32(1 / 255) if array.dtype == np.uint8 else array.astype(np.float32)


def by_ort(model, x, name):
    """The output of this name, sample by sample; a fixed batch is filled up."""
    opened = peer.session(str(model))
    port = opened.get_inputs()[0]
    fixed = port.shape[0] if isinstance(port.shape[0], int) else len(x)
    rows = []
    for at in range(0, len(x), fixed):
        part = x[at : at + fixed]
        filled = np.concatenate([part, np.repeat(part[-1:], fixed - len(part), 0)]) if len(part) < fixed else part
        names = [o.name for o in opened.get_outputs()]
        out = opened.run([name if name in names else names[0]], {port.name: filled})[0]
        rows.append(np.atleast_2d(out)[: len(part)])
    return np.concatenate(rows).astype(np.float64)


def runs(case):
    """Whether the teacher is one that ONNX Runtime runs on the data."""
    try:
        by_ort(case.teacher, inputs(case, "x_test")[:1], "")
        return True
    except Exception:
        return False


def by_program(program, x, scratch):
    (scratch / "in").write_bytes(np.ascontiguousarray(x).tobytes())
    subprocess.run([program, "run", "--input", "f32", scratch / "in", scratch / "out"], check=True, timeout=60)
    return np.frombuffer((scratch / "out").read_bytes(), np.float32).reshape(len(x), -1).astype(np.float64)


def judge(case, out, scratch):
    """Figures of a program, and what is wrong with them."""
    model = case.student or out / "student.onnx"
    x, y = inputs(case, "x_test"), np.load(case.data)["y_test"].astype(int)
    got = by_program(out / "bin/student", x, scratch)
    flags = case.how["flags"]
    name = flags[flags.index("--output") + 1] if "--output" in flags else ""
    wanted = by_ort(model, x, name).reshape(got.shape)
    span = max(wanted.max(initial=0) - wanted.min(initial=0), 1e-30)
    off = float(np.abs(got - wanted).max() / span)
    text, wrong = f"off by {off:.4f}", []
    if off > SHARE:
        try:
            calibration = inputs(case, "x")[:CALIBRATED]
            name_in = onnx.load(model).graph.input[0].name
            feeds = [{name_in: v[None]} for v in [*calibration, *x]]
            peer.CALIBRATED = len(calibration)
            theirs = peer.quantized(str(model), feeds, scratch)[len(calibration) :].reshape(got.shape)
            # Means over all outputs: the largest of steep functions is one step of one value more or less.
            ours, theirs = (float(np.abs(v - wanted).mean() / span) for v in (got, theirs))
            text += f", in the mean {ours:.4f}, ONNX Runtime's quantizer {theirs:.4f}"
            if ours > 1.25 * theirs + SHARE / 10:
                wrong.append("further off than ONNX Runtime's quantizer")
        except Exception as error:
            wrong.append(f"off, and the peer failed: {str(error).splitlines()[0][:80]}")
    if got.shape[1] > y.max(initial=0):
        accuracy = float((got.argmax(1) == y).mean())
        text += f", accuracy {100 * accuracy:.1f}%"
        if accuracy < case.how.get("accuracy", 0):
            wrong.append(f"accuracy below {100 * case.how['accuracy']:.0f}%")
    teacher = by_ort(case.teacher, x, name).reshape(len(x), -1)
    if teacher.shape == got.shape:
        agreement = float((wanted.argmax(1) == teacher.argmax(1)).mean())
        program = float((got.argmax(1) == teacher.argmax(1)).mean())
        text += f", as the teacher {100 * agreement:.1f}% (in int8 {100 * program:.1f}%)"
        if agreement < case.how.get("agreement", 0):
            wrong.append(f"agrees in less than {100 * case.how['agreement']:.0f}%")
    return text, wrong


def exported(case, out):
    """A file that was written again computes the same."""
    before, after = onnx.load(case.teacher), onnx.load(out)
    onnx.checker.check_model(after, full_check=True)
    rng = np.random.default_rng(0)
    sessions = [peer.session(m.SerializeToString()) for m in (before, after)]
    feeds = {}
    for port in sessions[0].get_inputs():
        shape = [n if isinstance(n, int) else 3 for n in port.shape]
        kind = np.int64 if "int64" in port.type else np.float32
        feeds[port.name] = (10 * rng.standard_normal(shape)).astype(kind)
    ports = [[(p.name, p.type) for p in [*s.get_inputs(), *s.get_outputs()]] for s in sessions]
    a, b = [s.run(None, feeds) for s in sessions]
    same = all(p.dtype == q.dtype and np.array_equal(p, q) for p, q in zip(a, b))
    wrong = ([] if same else ["other outputs"]) + ([] if ports[0] == ports[1] else ["other names or types"])
    return "equal outputs" if same else "", wrong


def run(kdc, case, scratch, keep):
    base = keep or scratch
    out = base / case.name.replace("/", "-").replace(" ", "-").replace(",", "")
    how = case.how
    if how["verb"] == "export":
        command = [kdc, "export", case.teacher, "--emit", "onnx", "--out", out.with_suffix(".onnx")]
    else:
        command = [kdc, how["verb"], case.teacher, "--sidecar", case.sidecar, "--target", "host", "--out", out, *how["flags"]]
        if case.student:
            command += ["--student", case.student, "--epochs", "0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(scratch / "cache")}
    started = time.time()
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace", timeout=SECONDS,
                              env=environment, cwd=scratch)
        code, errors = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        code, errors = None, ""
    (base / f"{out.name}.log").write_text("" if code is None else done.stdout + errors)
    took, wrong, text = time.time() - started, [], ""
    messages = [l for l in errors.splitlines() if l.startswith("error")] or errors.splitlines()[-1:]
    if code is None:
        wrong.append(f"ran longer than {SECONDS} s")
    elif code < 0 or "panicked" in errors:
        wrong.append(f"killed by signal {-code}" if code < 0 else "it panicked")
    elif code == 2:
        text = messages[0][:160] if messages else ""
        if not any(word in errors for word in how["refused"]):
            if runs(case):
                wrong.append("refused")
            else:
                text = "ONNX Runtime does not run it either; " + text
    elif how["refused"] and not how.get("may"):
        wrong.append("was to be refused")
    elif code not in how["codes"]:
        wrong.append("; ".join(l for l in (done.stdout + errors).splitlines() if "not met" in l)[:160] or f"exit code {code}")
    try:
        if code in (0, 1) and how["verb"] == "export":
            text, more = exported(case, out.with_suffix(".onnx"))
            wrong += more
        elif code in (0, 1) and how["verb"] == "compile" and not how.get("dry"):
            text, more = judge(case, out, scratch)
            wrong += more
    except Exception as error:  # a row, not the end
        wrong.append(f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")
    return code, took, wrong, text


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kdc", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=pathlib.Path)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    ort.set_default_logger_severity(4)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        cases = collected(given.folder.resolve(), scratch, given.names)
        print(f"{'case':46} {'exit':>4} {'seconds':>7}  verdict")
        for case in cases:
            code, took, wrong, text = run(given.kdc.resolve(), case, scratch, given.keep and given.keep.resolve())
            failed += bool(wrong)
            verdict = "good" if not wrong else "WRONG: " + "; ".join(wrong)
            print(f"{case.name:46} {str(code):>4} {took:7.1f}  {verdict}{'; ' + text if text else ''}", flush=True)
    print(f"{len(cases)} cases, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
