#!/usr/bin/env python3
"""Whole models: does what kdc writes after reading them run on ONNX Runtime as they do, and do kdc and tract agree?

    models.py KDC CONFORMANCE FOLDER…

Every NAME.onnx in the folders, with stored numbers (NAME.npz: inputs by name, and `out`) or else numbers made here.
ONNX Runtime has to give the stored output within 1e-4 of its scale, and within 1e-5 from the file that `kdc export`
wrote; outputs that are quantized within one step. Then CONFORMANCE (`cargo build --release --bench conformance`) runs
all of them on kdc and on tract: the files as they are, as kdc exported them, and as kdc gives them to tract when it is
asked for a teacher's answers. Measured; the exit status says whether ONNX Runtime, kdc and such teachers agree in all.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

STORED, EXPORTED = 1e-4, 1e-5


def run(path: pathlib.Path, arrays: dict) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: arrays[i.name] for i in session.get_inputs()})[0]


def made(path: pathlib.Path) -> dict:
    """Inputs of one sample, like bytes where the input is an image, and the output for them."""
    random, arrays = np.random.default_rng(0), {}
    for port in onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs():
        shape = [n if isinstance(n, int) else 1 for n in port.shape]
        images = len(shape) == 4 and shape[-1] == 3
        floats = random.uniform(0, 255, shape) if images else random.standard_normal(shape)
        stored = random.integers(-128, 128, shape)
        arrays[port.name] = floats.astype("f4") if port.type == "tensor(float)" else stored.astype("i1")
    arrays["out"] = run(path, arrays)
    return arrays


def step(path: pathlib.Path, out: np.ndarray) -> float:
    """The quantization step of the output, if it has one; stored integers have a step of 1."""
    if out.dtype.kind in "iu":
        return 1.0
    graph = onnx.load(path).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    last = next((n for n in graph.node if graph.output[0].name in n.output), None)
    return float(constants[last.input[1]]) if last is not None and last.op_type == "DequantizeLinear" else 0.0


def case(folder: pathlib.Path, model: pathlib.Path, arrays: dict) -> None:
    """As ONNX's operator tests lie in folders."""
    data = folder / model.stem / "test_data_set_0"
    data.mkdir(parents=True)
    (folder / model.stem / "model.onnx").write_bytes(model.read_bytes())
    graph = onnx.load(model).graph
    constants = {t.name for t in graph.initializer}
    names = [i.name for i in graph.input if i.name not in constants]
    tensors = [(f"input_{i}", arrays[name]) for i, name in enumerate(names)] + [("output_0", arrays["out"])]
    for name, array in tensors:
        tensor: TensorProto = numpy_helper.from_array(array, name)
        (data / f"{name}.pb").write_bytes(tensor.SerializeToString())


def main(kdc: str, conformance: str, folders: list[pathlib.Path]) -> int:
    failed = 0
    print(f"{'model':32} {'ONNX Runtime':>12} {'exported':>10}   shares of the output's scale")
    with tempfile.TemporaryDirectory() as scratch:
        cases = pathlib.Path(scratch) / "cases"
        for model in sorted(m for folder in folders for m in folder.glob("*.onnx")):
            stored = model.with_suffix(".npz")
            arrays = dict(np.load(stored)) if stored.exists() else made(model)
            scale = float(np.abs(arrays["out"].astype("f8")).max())
            exported = pathlib.Path(scratch) / model.name
            command = [kdc, "export", str(model), "--emit", "onnx", "--force", "--out", str(exported)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                failed += 1
                print(f"{model.stem:32} not exported: {done.stderr.strip()}")
                continue
            onnx.checker.check_model(str(exported), full_check=True)
            off = [
                float(np.abs(run(path, arrays).astype("f8") - arrays["out"]).max()) / scale for path in (model, exported)
            ]
            quantum = step(model, arrays["out"])
            limits = [max(limit, 1.01 * quantum / scale) for limit in (STORED, EXPORTED)]
            good = all(o <= limit for o, limit in zip(off, limits))
            failed += not good
            within = " (within one step)" if good and quantum else ""
            print(f"{model.stem:32} {off[0]:12.1e} {off[1]:10.1e}   {'ok' + within if good else 'TOO FAR'}", flush=True)
            case(cases, model, arrays)
        ways = [
            ("as they are", []),
            ("as kdc exported them", ["--exported"]),
            ("as they are; tract as kdc runs it for a teacher", ["--teacher"]),
        ]
        for what, more in ways:
            command = [conformance, str(cases), "--each", "--of-scale", str(STORED), *more]
            ran = subprocess.run(command, text=True, capture_output=True)
            print(f"\nThe files {what}\n{ran.stdout}")
            failed += ran.returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], [pathlib.Path(p) for p in sys.argv[3:]]))
