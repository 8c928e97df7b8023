#!/usr/bin/env python3
"""What `kdc export --emit onnx` writes, under the onnx checker and ONNX Runtime, against stored outputs.

    roundtrip.py KDC FOLDER     every NAME.onnx in FOLDER with a NAME.npz beside it: inputs by name, and the output `out`

Differences are relative to the largest magnitude of the output.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-5


def main(kdc: str, folder: pathlib.Path) -> int:
    failed = 0
    for model in sorted(folder.glob("*.onnx")):
        stored = model.with_suffix(".npz")
        if not stored.exists():
            continue
        arrays = np.load(stored)
        with tempfile.TemporaryDirectory() as scratch:
            exported = pathlib.Path(scratch) / model.name
            done = subprocess.run(
                [kdc, "export", model, "--emit", "onnx", "--out", exported], capture_output=True, text=True
            )
            if done.returncode:
                print(f"{model.stem:24} not exported: {done.stderr.strip()}")
                failed += 1
                continue
            onnx.checker.check_model(str(exported), full_check=True)
            session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
            inputs = {i.name: arrays[i.name] for i in session.get_inputs()}
            made = session.run(None, inputs)[0]
        off = float(np.abs(made - arrays["out"]).max() / np.abs(arrays["out"]).max())
        failed += not off <= TOLERANCE
        print(f"{model.stem:24} {off:.1e} {'ok' if off <= TOLERANCE else 'TOO FAR'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2])))
