#!/usr/bin/env python3
"""How long kdc takes to import large models, and how much memory: weights are mapped, not copied.

    large.py KDC [FOLDER]     makes the models in FOLDER (3.4 GB; a temporary one is removed) and reads each by kdc

One of 500 MB with its weights inside, one with them beside it (external data), one of more than 2 GiB, which no
protobuf file can be, with them beside it. Time is that of the whole process, memory its peak resident set, as the
system measured them. A limit that is not met is the exit status.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The limits: seconds, and memory as a share of the model's size.
SECONDS, SHARE = 5.0, 1.5
WIDTH = 2048


def model(path: pathlib.Path, layers: int, beside: bool) -> int:
    """A chain of linear layers; returns the bytes of all its files."""
    random = np.random.default_rng(0)
    weight = (random.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32).tobytes()
    nodes, tensors, data = [], [], path.with_suffix(".data")
    with open(data, "wb") as file:
        for i in range(layers):
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
            if beside:
                tensor.data_location = TensorProto.EXTERNAL
                place = {"location": data.name, "offset": str(file.tell()), "length": str(len(weight))}
                tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in place.items())
                file.write(weight)
            else:
                tensor.raw_data = weight
            # A bias of another size each: weights inside a file lie at any offset.
            bias = numpy_helper.from_array(np.zeros([1] * (i % 4) + [WIDTH], np.float32), f"b{i}" + "x" * (i % 7))
            tensors += [tensor, bias]
            nodes += [
                helper.make_node("MatMul", [f"x{i}", tensor.name], [f"y{i}"]),
                helper.make_node("Add", [f"y{i}", bias.name], [f"x{i + 1}"]),
            ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x0", f"x{layers}")]
    if any(i % 4 > 1 for i in range(layers)):
        ports[1] = helper.make_empty_tensor_value_info(f"x{layers}")
    graph = helper.make_graph(nodes, "large", ports[:1], ports[1:], tensors)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    if not beside:
        data.unlink()
    return path.stat().st_size + (data.stat().st_size if beside else 0)


def measured(kdc: str, path: pathlib.Path) -> tuple[float, int]:
    """Seconds and peak bytes of reading a model and listing its layers."""
    start = time.monotonic()
    process = subprocess.Popen([kdc, "inspect", str(path)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{path.name}: kdc failed")
    return time.monotonic() - start, usage.ru_maxrss * 1024


def main(kdc: str, folder: pathlib.Path) -> int:
    failed = 0
    print(f"{'model':8} {'size':>8} {'time':>8} {'memory':>9} {'of size':>8}   measured")
    for name, layers, beside in [("inside", 30, False), ("beside", 30, True), ("2GiB", 140, True)]:
        path = folder / f"{name}.onnx"
        # In a process of its own: a child's peak starts at its parent's memory.
        with concurrent.futures.ProcessPoolExecutor(1) as maker:
            size = maker.submit(model, path, layers, beside).result()
        seconds, peak = measured(kdc, path)
        failed += seconds > SECONDS or peak > SHARE * size
        print(f"{name:8} {size / 1e6:5.0f} MB {seconds:6.2f} s {peak / 1e6:6.0f} MB {peak / size:7.2f}x")
        for made in (path, path.with_suffix(".data")):
            made.unlink(missing_ok=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2])))
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(main(sys.argv[1], pathlib.Path(scratch)))
