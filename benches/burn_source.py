#!/usr/bin/env python3
"""What `kdc export --emit burn` writes, compiled and compared with stored outputs.

    burn_source.py KDC FOLDER [NAME…]     KDC is built with `--features burn-source`

FOLDER holds models as ONNX's operator tests lie (NAME/model.onnx, NAME/test_data_set_0). Differences are shares of the
output's own scale, measured.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

TOLERANCE = 1e-4


def stored(case: pathlib.Path, kind: str) -> list[np.ndarray]:
    files = sorted((case / "test_data_set_0").glob(f"{kind}_*.pb"))
    return [numpy_helper.to_array(onnx.load_tensor(str(file))) for file in files]


def difference(kdc: str, case: pathlib.Path, scratch: pathlib.Path) -> float:
    project, target = scratch / case.name, scratch / "target"
    command = [kdc, "export", str(case / "model.onnx"), "--emit", "burn", "--force", "--out", str(project)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(project / "Cargo.toml")]
    subprocess.run(build, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    files = []
    for i, array in enumerate(stored(case, "input")):
        files.append(str(scratch / f"input_{i}"))
        pathlib.Path(files[-1]).write_bytes(array.tobytes())
    out = scratch / "output"
    subprocess.run([str(target / "release" / "network"), *files, str(out)], check=True)
    expected = stored(case, "output")[0]
    made = np.frombuffer(out.read_bytes(), np.float32).reshape(expected.shape)
    return float(np.abs(made - expected).max() / np.abs(expected).max())


def main(kdc: str, folder: pathlib.Path, names: list[str]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for case in sorted(folder / name for name in names) if names else sorted(folder.iterdir()):
            try:
                off = difference(kdc, case, pathlib.Path(scratch))
                good = off <= TOLERANCE
                print(f"{case.name:24} {off:.1e} {'ok' if good else 'TOO FAR'}", flush=True)
            except subprocess.CalledProcessError as error:
                good = False
                print(f"{case.name:24} failed: {' '.join(map(str, error.cmd[:2]))}", flush=True)
            failed += not good
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]))
