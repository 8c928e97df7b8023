"""Letter recognition (Frey and Slate 1991): 20,000 rows of 16 whole numbers, 26 classes, as CSV and as Parquet.

Samples: Debian's r-cran-mlbench, data/LetterRecognition.rda, named with --source. The last 4,000 rows are the test part,
as its authors have it: a column `part` says so. Teacher: a perceptron with two hidden layers.
"""

import pathlib

import numpy as np
import rdata
import torch
from torch import nn

from common import accuracy, export, folder, train

SIDECAR = """title = "Perceptron for Letter"

[data]
path = "letter.csv"
format = "csv"

[table]
label = "lettr"
ignore = ["part"]

[split]
rule = "part == test"

# Means and deviations of the training rows, column by column.
[input]
mean = {mean}
std = {std}
"""


def main():
    out, source = folder(__doc__)
    if source is None:
        source = pathlib.Path("/usr/lib/R/site-library/mlbench/data/LetterRecognition.rda")
    table = next(iter(rdata.read_rda(source).values()))
    table.columns = [name.replace(".", "_") for name in table.columns]
    table["lettr"] = table["lettr"].astype(str)
    table["part"] = np.where(np.arange(len(table)) < 16000, "train", "test")
    table.to_csv(out / "letter.csv", index=False)
    table.to_parquet(out / "letter.parquet", index=False)

    x = table.drop(columns=["lettr", "part"]).to_numpy().astype(np.float32)
    names = sorted(table["lettr"].unique())
    y = table["lettr"].map(names.index).to_numpy()
    mean, std = (np.round(v, 4) for v in (x[:16000].mean(0), x[:16000].std(0)))
    x = torch.as_tensor((x - mean) / std, dtype=torch.float32)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 26))
    train(model, [x[:16000]], y[:16000], epochs=12)
    listed = [[float(f"{v:.4f}") for v in values] for values in (mean, std)]
    export(model, [x[:1]], ["features"], out / "letter.onnx", SIDECAR.format(mean=listed[0], std=listed[1]))
    print(f"letter: {100 * accuracy(model, [x[16000:]], y[16000:]):.2f}% of {len(y) - 16000} test rows, by PyTorch")


main()
