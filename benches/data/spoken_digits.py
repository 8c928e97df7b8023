"""Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0): 3,000 WAV files of 8 kHz, DIGIT_SPEAKER_TAKE.wav.

Samples: the folder with its `recordings`, named with --source. Test part by its authors' rule: takes 0 to 4. Teacher: a
small convolutional network over log-mel energies, which are computed here with NumPy by the formulas that kdc's reader
documents.
"""

import wave

import numpy as np
import torch
from torch import nn

from common import accuracy, export, folder, train

RATE, LENGTH, WINDOW, HOP, FFT, BANDS, LOW, HIGH = 8000, 8000, 200, 120, 256, 40, 20, 4000
MEAN, STD = -7.0, 5.0

SIDECAR = """title = "Spoken digits, log-mel energies"

[data]
path = "{path}"
format = "wav"
names = "{{class}}_{{speaker}}_{{take}}"

[split]
rule = "take < 5"

[audio]
rate = 8000
seconds = 1.0
features = "log-mel"
window = 0.025
hop = 0.015
bands = 40
low = 20.0
scale = "htk"

[input]
mean = [-7.0]
std = [5.0]
"""


def filters():
    """Triangles on HTK's mel scale, [bands, bins]."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([LOW, HIGH]) / 700)), BANDS + 2)
    corners = 700 * (10 ** (mel / 2595) - 1)
    bins = np.arange(FFT // 2 + 1) * RATE / FFT
    left, middle, right = (corners[i : i + BANDS, None] for i in range(3))
    return np.maximum(0, np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)))


def features(path, weights):
    """[bands, frames]"""
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(LENGTH), "<i2") / 32768
    sound = np.pad(sound, (0, LENGTH - len(sound)))
    window = np.zeros(FFT)
    margin = (FFT - WINDOW) // 2
    window[margin : margin + WINDOW] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(sound, FFT)[::HOP] * window
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log(np.maximum(weights @ power.T, 1e-10))


def main():
    out, source = folder(__doc__)
    source = (source / "recordings").resolve()
    weights = filters()
    sides = {"train": ([], []), "test": ([], [])}
    for path in sorted(source.glob("*.wav")):
        digit, _, take = path.stem.split("_")
        x, y = sides["test" if int(take) < 5 else "train"]
        x.append((features(path, weights) - MEAN) / STD)
        y.append(int(digit))
    (x, y), (x_test, y_test) = ((torch.tensor(np.stack(x), dtype=torch.float32)[:, None], y) for x, y in sides.values())

    torch.manual_seed(0)
    layers, channels = [], 1
    for width, stride in [(32, 2), (64, 2), (96, 2), (96, 1)]:
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    shifted = lambda parts: [torch.roll(parts[0], int(torch.randint(-4, 5, ())), 3)]
    train(model, [x], y, epochs=8, change=shifted)
    export(model, [x[:1]], ["features"], out / "digits.onnx", SIDECAR.format(path=source))
    print(f"spoken digits: {100 * accuracy(model, [x_test], y_test):.2f}% of {len(x_test)} test sounds, by PyTorch")


if __name__ == "__main__":
    main()
