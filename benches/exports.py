#!/usr/bin/env python3
"""Models through `kdc export --emit onnx`: what ONNX Runtime answers before and after, port by port.

    exports.py KDC FILE|FOLDER…     folders are searched for .onnx files

Inputs are drawn by a fixed seed; open extents are 2. Names, element types and ranks of inputs and outputs have to be the
same, values within 1e-4 of the output's scale (2e-2 in half precision and of operators on quantized tensors, which kdc
reads as float operators between a pair). What ONNX Runtime does not run, or kdc refuses as
no supported file, is counted and not judged.
"""
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort

TYPES = {
    "float": np.float32, "double": np.float64, "float16": np.float16, "int8": np.int8, "uint8": np.uint8, "int16": np.int16,
    "uint16": np.uint16, "int32": np.int32, "uint32": np.uint32, "int64": np.int64, "uint64": np.uint64, "bool": np.bool_,
}


def session(file: pathlib.Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # As the file says: an optimiser that fuses is a second opinion, not the file's.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def drawn(port: ort.NodeArg, integers: int, rng: np.random.Generator) -> np.ndarray:
    kind = TYPES[port.type.removeprefix("tensor(").removesuffix(")")]
    shape = [extent if isinstance(extent, int) else 2 for extent in port.shape]
    if kind == np.bool_:
        return rng.random(shape) < 0.5
    if np.issubdtype(kind, np.integer):
        return rng.integers(0, integers, shape).astype(kind)
    return rng.uniform(-1.5, 2.5, shape).astype(kind)


def ports(s: ort.InferenceSession) -> list[tuple]:
    return [(p.name, p.type, len(p.shape)) for p in [*s.get_inputs(), *s.get_outputs()]]


def judge(kdc: str, file: pathlib.Path, scratch: pathlib.Path) -> str:
    """`ok`, why it is not judged (in brackets), or what is wrong."""
    try:
        before = session(file)
        feeds = None
        # Indices have to be small; other integers may be.
        for integers in (5, 2, 1):
            feeds = {p.name: drawn(p, integers, np.random.default_rng(7)) for p in before.get_inputs()}
            try:
                wanted = before.run(None, feeds)
                break
            except Exception:
                if integers == 1:
                    raise
    except Exception as error:
        return f"(ONNX Runtime: {str(error).splitlines()[0][:80]})"
    out = scratch / "out.onnx"
    out.unlink(missing_ok=True)
    run = subprocess.run([kdc, "export", str(file), "--emit", "onnx", "--out", str(out)], capture_output=True, text=True)
    if run.returncode:
        return f"refused: {run.stderr.strip()[:200]}"
    try:
        after = session(out)
        got = after.run(None, feeds)
    except Exception as error:
        return f"what was written does not run: {str(error).splitlines()[0][:200]}"
    if ports(before) != ports(after):
        return f"ports: {ports(before)} became {ports(after)}"
    coarse = any(node.op_type.startswith(("QLinear", "QGemm")) for node in onnx.load(str(file)).graph.node)
    for port, a, b in zip(before.get_outputs(), wanted, got):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{port.name}: {a.dtype}{a.shape} became {b.dtype}{b.shape}"
        x, y = a.astype(np.float64), b.astype(np.float64)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        scale = max(1e-6, np.abs(x[np.isfinite(x)]).max(initial=0.0))
        off = np.where(same, 0.0, np.where(finite, np.abs(np.where(finite, x - y, 0.0)) / scale, np.inf)).max(initial=0.0)
        if off > (2e-2 if coarse or a.dtype == np.float16 else 1e-4):
            return f"{port.name}: off by {off:.1e} of its scale"
    return "ok"


def main(kdc: str, paths: list[pathlib.Path]) -> int:
    warnings.simplefilter("ignore")
    files = [f for path in paths for f in (sorted(path.rglob("*.onnx")) if path.is_dir() else [path])]
    counts = {"ok": 0, "not judged": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as scratch:
        for file in files:
            verdict = judge(kdc, file, pathlib.Path(scratch))
            kind = "ok" if verdict == "ok" else "not judged" if verdict.startswith("(") else "wrong"
            counts[kind] += 1
            if kind != "ok":
                print(f"{file}: {verdict}", flush=True)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [pathlib.Path(p) for p in sys.argv[2:]]))
