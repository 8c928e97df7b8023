#!/usr/bin/env python3
"""Compares networks that `cargo bench --bench backend -- --write DIR` wrote with ONNX Runtime.

    peer.py DIR     one line for each network of which something is wrong, and a summary

The f32 program against ONNX Runtime on the float network, its graph as it is written, within 1e-3 of the output's range (where
they differ, ONNX's reference evaluator says who is right: ONNX Runtime's fast functions cancel); the int8 program's error beside
that of ONNX Runtime's own static quantizer (QDQ, signed, per channel, min-max, the same samples of calibration): never
more than 2% of the output's range worse. Errors are means over all outputs of all samples, as shares of the range; the
largest is printed beside. Networks that ONNX Runtime's optimizer changes the answer of, or cannot load, are counted.
"""
import logging
import pathlib
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CALIBRATED = 16
logging.disable(logging.WARNING)


class Samples(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def session(model, exact=False):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model, feeds, exact=False):
    opened = session(model, exact)
    return np.concatenate([opened.run(None, feed)[0] for feed in feeds])


def quantized(model, feeds, folder):
    """The answers of the network as ONNX Runtime's quantizer leaves it, computed pair by pair in floats: fused into integer
    operators, sums saturate on processors without VNNI, and some of them are refused."""
    path = str(pathlib.Path(folder) / "quantized.onnx")
    options = {"ActivationSymmetric": False}
    quantize_static(model, path, Samples(feeds[:CALIBRATED]), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options=options)
    return run(path, feeds, exact=True)


def main(root: pathlib.Path) -> int:
    warnings.filterwarnings("ignore")
    ort.set_default_logger_severity(4)
    wrong, by_definition, optimized, worse, better, by_largest, counted, unquantized, gains = 0, 0, 0, 0, 0, 0, 0, 0, []
    for folder in sorted(p for p in root.iterdir() if (p / "student.onnx").exists()):
        model = str(folder / "student.onnx")
        inputs = [np.load(folder / f"input_{i}.npy") for i in range(len(list(folder.glob("input_*.npy"))))]
        answers = {name: np.load(folder / f"output_{name}.npy").astype(np.float64) for name in ("int8", "f32")}
        counted += 1
        try:
            names = [i.name for i in session(model, exact=True).get_inputs()]
        except Exception as error:
            wrong += 1
            print(f"LOAD {folder.name}: {str(error).splitlines()[0][-160:]}", flush=True)
            continue
        feeds = [{n: x[i : i + 1] for n, x in zip(names, inputs)} for i in range(len(inputs[0]))]
        try:
            float_by_ort = run(model, feeds, exact=True).astype(np.float64)
        except Exception as error:  # what the peer cannot do is no fault of kdc
            unquantized += 1
            print(f"peer {folder.name}: {str(error).splitlines()[0][-120:]}", flush=True)
            continue
        span = max(float(float_by_ort.max(initial=0) - float_by_ort.min(initial=0)), 1e-30)
        share = lambda got: np.abs(got.reshape(float_by_ort.shape) - float_by_ort) / span
        try:
            optimizer = share(run(model, feeds)).max()
        except Exception:
            optimizer = np.inf
        if not optimizer <= 1e-3:
            optimized += 1
            print(f"optimizer {folder.name}: off by {optimizer:.5f} of the range", flush=True)
        if not share(answers["f32"]).max() <= 1e-3:
            try:
                defined = ReferenceEvaluator(model)
                float_by_ort = np.concatenate([defined.run(None, feed)[0] for feed in feeds]).astype(np.float64)
                by_definition += 1
            except Exception as error:
                print(f"reference {folder.name}: {str(error).splitlines()[0][-120:]}", flush=True)
        if not share(answers["f32"]).max() <= 1e-3:
            wrong += 1
            print(f"F32 {folder.name}: off by {share(answers['f32']).max():.5f} of the range", flush=True)
        try:
            with tempfile.TemporaryDirectory() as temporary:
                peer = share(quantized(model, feeds, temporary).astype(np.float64))
        except Exception as error:
            unquantized += 1
            print(f"peer {folder.name}: {str(error).splitlines()[0][-120:]}", flush=True)
            continue
        ours = share(answers["int8"])
        gains.append(ours.mean() - peer.mean())
        by_largest += bool(ours.max() > peer.max() + 0.02)
        better += bool(ours.mean() < peer.mean() - 0.02)
        if not ours.mean() <= peer.mean() + 0.02:
            worse += 1
            print(f"WORSE {folder.name}: {ours.mean():.4f} against {peer.mean():.4f} (largest {ours.max():.4f} against "
                  f"{peer.max():.4f})", flush=True)
    gains = np.array(gains or [0.0])
    print(f"{counted} networks: {wrong} differ in f32 ({by_definition} judged by ONNX's reference evaluator), {optimized} otherwise "
          f"by ONNX Runtime's optimizer; {worse} more than 2% of the range worse than its quantizer, {better} as much better "
          f"({by_largest} worse by the largest error); {unquantized} it could not run or quantize; error less the peer's: "
          f"median {np.median(gains):+.5f}, largest {gains.max():+.5f}, smallest {gains.min():+.5f}")
    return 1 if wrong or worse else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
