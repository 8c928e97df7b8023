"""Makes spectrum.json: features of a known sound by NumPy alone, from the formulas in spectrum.rs; where librosa has the
same feature, by librosa, and the two are compared.

    python crates/train/src/data/tests/spectrum.py > crates/train/src/data/tests/spectrum.json
"""

import json
import sys

import numpy as np

RATE, LENGTH = 8000, 1600


def sound():
    t = np.arange(LENGTH) / RATE
    x = 0.5 * np.sin(2 * np.pi * (200 * t + 4000 * t * t)) + 0.1 * np.sin(2 * np.pi * 3000 * t)
    return x.astype(np.float32)


def mel(scale, f):
    if scale == "htk":
        return 2595 * np.log10(1 + f / 700)
    return np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1e-9) / 1000) / np.log(6.4))


def hertz(scale, m):
    if scale == "htk":
        return 700 * (10 ** (m / 2595) - 1)
    return np.where(m < 15, 200 * m / 3, 1000 * np.exp(np.log(6.4) * (m - 15) / 27))


def features(kind, window, hop, fft, bands, low, high, scale, area, log, coefficients, center):
    x = sound().astype(np.float64)
    x = np.pad(x, fft // 2) if center else x
    w = np.zeros(fft)
    margin = (fft - window) // 2
    w[margin : margin + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = np.stack([x[i : i + fft] * w for i in range(0, len(x) - fft + 1, hop)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    corners = hertz(scale, np.linspace(mel(scale, np.float64(low)), mel(scale, np.float64(high)), bands + 2))
    bins = np.arange(fft // 2 + 1) * RATE / fft
    left, middle, right = (corners[i : i + bands, None] for i in range(3))
    weights = np.maximum(0, np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)))
    weights = weights * (2 / (right - left)) if area else weights
    energy = np.maximum(weights @ power.T, 1e-10)
    out = 10 * np.log10(energy) if log == "db" else np.log(energy)
    if kind == "mfcc":
        c, b = np.arange(coefficients)[:, None], np.arange(bands)[None]
        norm = np.where(c == 0, 1, 2) / bands
        out = np.sqrt(norm) * np.cos(np.pi * c * (b + 0.5) / bands) @ out
    return out


CASES = [
    dict(kind="log-mel", window=200, hop=80, fft=256, bands=20, low=20, high=4000, scale="htk", area=False, log="ln",
         coefficients=13, center=False),
    dict(kind="mfcc", window=160, hop=160, fft=256, bands=20, low=0, high=3800, scale="htk", area=False, log="ln",
         coefficients=13, center=False),
    dict(kind="log-mel", window=256, hop=160, fft=256, bands=16, low=0, high=4000, scale="slaney", area=True, log="db",
         coefficients=13, center=True),
    dict(kind="mfcc", window=200, hop=160, fft=256, bands=20, low=0, high=4000, scale="slaney", area=True, log="db",
         coefficients=13, center=True),
]


def compare(case, ours):
    try:
        import librosa
    except ImportError:
        return print("librosa is not installed: not compared", file=sys.stderr)
    c = case
    m = librosa.feature.melspectrogram(
        y=sound().astype(np.float64), sr=RATE, n_fft=c["fft"], hop_length=c["hop"], win_length=c["window"],
        center=c["center"], n_mels=c["bands"], fmin=c["low"], fmax=c["high"], htk=c["scale"] == "htk",
        norm="slaney" if c["area"] else None)
    m = np.maximum(m, 1e-10)
    theirs = 10 * np.log10(m) if c["log"] == "db" else np.log(m)
    if c["kind"] == "mfcc":
        theirs = librosa.feature.mfcc(S=theirs, n_mfcc=c["coefficients"])
    print(f"{c['kind']}, {c['scale']}: differs from librosa by {np.abs(theirs - ours).max():.2e}", file=sys.stderr)


cases = []
for case in CASES:
    out = features(**case)
    compare(case, out)
    cases.append({**case, "shape": list(out.shape), "values": [round(float(v), 5) for v in out.ravel()]})
print(json.dumps(cases))
