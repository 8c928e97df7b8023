#!/usr/bin/env python3
"""Writes models with stored numbers in the layout of ONNX's operator tests, for `cargo bench --bench conformance`.

    corpus.py FOLDER OUT     every NAME.onnx in FOLDER with a NAME.npz beside it: inputs by name, and the output `out`
"""
import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def main(folder: pathlib.Path, out: pathlib.Path) -> None:
    for model in sorted(folder.glob("*.onnx")):
        stored = model.with_suffix(".npz")
        if not stored.exists():
            continue
        case = out / model.stem
        data = case / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, case / "model.onnx")
        arrays = np.load(stored)
        graph = onnx.load(model).graph
        constants = {t.name for t in graph.initializer}
        inputs = [i.name for i in graph.input if i.name not in constants]
        for i, name in enumerate(inputs):
            (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(arrays[name], name).SerializeToString())
        (data / "output_0.pb").write_bytes(
            numpy_helper.from_array(arrays["out"], graph.output[0].name).SerializeToString()
        )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
