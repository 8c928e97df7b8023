#!/usr/bin/env python3
"""Damages what kdc keeps, kills it, and changes its inputs under its feet; whatever happens, nothing wrong may be shipped.

    benches/trust.py KDC corrupt     every kind of file in the cache, four ways each: the same bytes come out
    benches/trust.py KDC kill [N]    N kills at random moments (20), then one run to the end: the same bytes come out
    benches/trust.py KDC poison      the teacher is overwritten or cut short while kdc runs: an error or the same bytes, and
                                     the same bytes from the next run with the teacher restored

A line for each case; exits 1 if one is wrong. Takes numpy and onnx (benches/requirements.txt). The shorter form of the same
is in tests/pipeline/trust.rs and interruption.rs.
"""

import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES = 8, 4
# Of a run; longer is a hang.
PATIENCE = 300
TEXT = (".rs", ".toml", ".h", ".json", ".md", ".lock", ".txt")


def teacher(path: pathlib.Path) -> None:
    """A network that tells rows, columns, checks and grey apart, with weights that are written down."""
    row = np.array([-1, -1, -1, 2, 2, 2, -1, -1, -1], "f4").reshape(3, 3) / 12
    checks = np.array([1, -1, 1, -1, 1, -1, 1, -1, 1], "f4").reshape(3, 3) / 9
    patterns = [row, row.T, checks]
    first, second = 16, 32
    alike = lambda a, n: sum(b % 3 == a % 3 for b in range(n))
    mix = np.array([[(a % 3 == b % 3) / alike(a, first) for b in range(first)] for a in range(second)], "f4")
    vote = np.array([[16 * (c % 3 == k) / alike(c, second) for c in range(second)] for k in range(CLASSES)], "f4")
    weights = {
        "edges": np.stack([patterns[c % 3] for c in range(first)])[:, None],
        "mix": mix[:, :, None, None],
        "vote": vote,
        "bias": np.array([0, 0, 0, 3.2], "f4"),
    }
    nodes = [
        helper.make_node("Conv", ["image", "edges"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "mix"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "vote", "bias"], ["logits"], transB=1),
    ]
    port = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    constants = [numpy_helper.from_array(w.astype("f4"), name) for name, w in weights.items()]
    image, logits = port("image", ["batch", 1, SIDE, SIDE]), port("logits", ["batch", CLASSES])
    graph = helper.make_graph(nodes, "stripes", [image], [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def data(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(1)
    folder.mkdir()
    for prefix, count in [("train", 512), ("t10k", 128)]:
        labels = np.arange(count) % CLASSES
        y, x = np.mgrid[:SIDE, :SIDE]
        kinds = np.stack([y, x, x + y]) % 2
        phase = rng.integers(0, 2, count)
        level = np.array([np.where((kinds[k] + p) % 2, 215, 40) if k < 3 else np.full((SIDE, SIDE), 128) for k, p in zip(labels, phase)])
        pixels = (level + rng.integers(-40, 41, level.shape)).astype("u1")
        head = lambda *extents: bytes([0, 0, 8, len(extents)]) + b"".join(n.to_bytes(4, "big") for n in extents)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head(count, SIDE, SIDE) + pixels.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(head(count) + labels.astype("u1").tobytes())


SIDECAR = """[data]
path = "data"
format = "idx"
classes = ["rows", "columns", "checks", "grey"]
[input]
layout = "nchw"
scale = "1/255"
mean = [0.5]
std = [0.5]
[augment]
shift = 1
flip = true
"""


class Workshop:
    def __init__(self, kdc: str, root: pathlib.Path):
        self.kdc, self.root = str(pathlib.Path(kdc).resolve()), root
        teacher(root / "teacher.onnx")
        (root / "teacher.toml").write_text(SIDECAR)
        data(root / "data")

    def command(self, *more: str) -> list[str]:
        plain = ["compile", "teacher.onnx", "--target", "host", "--engine", "tract", "--batch-size", "32", "--epochs", "8"]
        return [self.kdc, *plain, "--max-quant-drop", "50", *more]

    def start(self, cache: pathlib.Path, out: pathlib.Path, *more: str) -> subprocess.Popen:
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        command = self.command("--out", str(out), *more)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, cache: pathlib.Path, out: pathlib.Path, *more: str) -> tuple[int, str]:
        running = self.start(cache, out, *more)
        try:
            said = "".join(running.communicate(timeout=PATIENCE))
        except subprocess.TimeoutExpired:
            running.kill()
            said = "".join(running.communicate()) + "\nit hung"
        return running.returncode, said


def hashes(folder: pathlib.Path) -> dict[str, str]:
    """What must be the same from run to run: everything but measured figures."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("report.")]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def kinds(cache: pathlib.Path) -> list[pathlib.Path]:
    """One file of each name in each stage; of the kernels' sources one stands for all."""
    found = {}
    for path in sorted(p.relative_to(cache) for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"):
        stage, rest = path.parts[1], "/".join(path.parts[3:])
        if "crate/kernels/src" in rest and path.name != "conv2d.rs":
            continue
        found.setdefault((stage, "logits" if stage == "labels" else rest), path)
    return list(found.values())


def damage(path: pathlib.Path, how: str, rng: random.Random) -> bool:
    contents = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
        return True
    if how == "flip":
        if not contents:
            return False
        digits = [i for i, b in enumerate(contents) if chr(b).isdigit()]
        if path.name.endswith(TEXT) and digits:
            # Another digit: it stays a text that can be read.
            at = digits[len(digits) // 2]
            contents[at] = ord("3") if contents[at] == ord("7") else ord("7")
        else:
            contents[rng.randrange(len(contents) // 4, len(contents))] ^= 0x10
    contents = {"flip": contents, "trunc": contents[: len(contents) // 2], "empty": bytearray()}[how]
    path.write_bytes(contents)
    return True


def corrupt(workshop: Workshop) -> int:
    root, rng, wrong, count = workshop.root, random.Random(5), 0, 0
    whole = root / "whole"
    code, said = workshop.run(whole, root / "reference")
    assert code == 0, said
    reference = hashes(root / "reference")
    for file in kinds(whole):
        for how in ["flip", "trunc", "empty", "delete"]:
            cache, out = root / "cache", root / "out"
            for old in [cache, out]:
                shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(whole, cache)
            if not damage(cache / file, how, rng):
                continue
            start = time.time()
            code, said = workshop.run(cache, out)
            same = code == 0 and hashes(out) == reference
            count, wrong = count + 1, wrong + (not same)
            told = "told" if "is damaged" in said else "made again"
            name = "/".join([file.parts[1], *file.parts[3:]])
            verdict = f"the same bytes, {told}" if same else f"WRONG\n{said[-2000:]}"
            print(f"{name:45} {how:6} exit {code} {time.time() - start:5.1f} s  {verdict}", flush=True)
    print(f"{count - wrong} of {count} end with the bytes of a run from scratch")
    return wrong


def kill(workshop: Workshop, times: int) -> int:
    root, rng = workshop.root, random.Random(7)
    start = time.time()
    code, said = workshop.run(root / "whole", root / "reference")
    assert code == 0, said
    took, killed = time.time() - start, 0
    for _ in range(4 * times):
        running = workshop.start(root / "cache", root / "out")
        time.sleep(took * 0.25 * 10 ** rng.uniform(-2, 0))
        running.kill()
        running.communicate()
        killed += running.returncode != 0
        if killed == times:
            break
    code, said = workshop.run(root / "cache", root / "out")
    same = code == 0 and hashes(root / "out") == hashes(root / "reference")
    print(f"after {killed} kills: exit {code}, {'the same bytes' if same else 'OTHER BYTES' + said[-2000:]}")
    return 0 if same and killed == times else 1


def poison(workshop: Workshop) -> int:
    root, wrong = workshop.root, 0
    plain = ["--no-build", "--no-search", "--recipe", "labelled", "--emit", "onnx"]
    original = (root / "teacher.onnx").read_bytes()
    model = onnx.load_model_from_string(original)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    other = model.SerializeToString()
    assert len(other) == len(original)
    start = time.time()
    code, said = workshop.run(root / "whole", root / "reference", *plain)
    assert code == 0, said
    took, reference = time.time() - start, hashes(root / "reference")
    for share in [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8]:
        for how, contents in [("overwritten", other), ("cut short", original[: len(original) // 3])]:
            for old in [root / "cache", root / "out"]:
                shutil.rmtree(old, ignore_errors=True)
            running = workshop.start(root / "cache", root / "out", *plain)
            time.sleep(took * share)
            (root / "teacher.onnx").write_bytes(contents)
            said = "".join(running.communicate(timeout=PATIENCE))
            first = running.returncode
            shipped = hashes(root / "out") if first == 0 else {}
            (root / "teacher.onnx").write_bytes(original)
            code, again = workshop.run(root / "cache", root / "out", *plain)
            # With the changed file from the first byte on, another student is right.
            right = first == 2 or first == 0 and (shipped == reference or share < 0.05)
            same = right and code == 0 and hashes(root / "out") == reference
            wrong += not same
            verdict = "the same bytes afterwards" if same else f"WRONG\n{said[-1500:]}\n{again[-1500:]}"
            print(f"{how} after {share:4.0%} of the run: exit {first}, then {code}, {verdict}", flush=True)
    return wrong


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[2] not in ("corrupt", "kill", "poison"):
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(sys.argv[1], pathlib.Path(folder))
        match sys.argv[2]:
            case "corrupt":
                return min(corrupt(workshop), 1)
            case "kill":
                return kill(workshop, int(sys.argv[3]) if len(sys.argv) > 3 else 20)
            case _:
                return min(poison(workshop), 1)


if __name__ == "__main__":
    sys.exit(main())
