"""CIFAR-10 (Krizhevsky 2009) as kdc's benchmark of methods wants it: 1,000 training images of each class and all test images.

    python benches/data/cifar10.py OUT --source IMAGES --teacher RESNET56.onnx
    python benches/methods/table.py KDC cifar10 --teacher OUT/teacher.onnx --data OUT

Samples: folders `train` and `test` with a folder of image files for each class in them, named with --source; those that come
first by name are taken. Teacher: any network over [batch, 3, 32, 32] that takes ImageNet's mean and deviation.
"""

import argparse
import pathlib
import shutil

COUNT = 1000

SIDECAR = """title = "ResNet-56 for CIFAR-10"

[data]
path = "."
format = "images"

[input]
scale = "1/255"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[augment]
shift = 4
flip = true
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--teacher", type=pathlib.Path, required=True)
    given = parser.parse_args()
    for part, most in [("train", COUNT), ("test", None)]:
        for kind in sorted(path for path in (given.source / part).iterdir() if path.is_dir()):
            to = given.out / part / kind.name
            to.mkdir(parents=True, exist_ok=True)
            for image in sorted(kind.iterdir())[:most]:
                shutil.copy(image, to / image.name)
    shutil.copy(given.teacher, given.out / "teacher.onnx")
    (given.out / "teacher.toml").write_text(SIDECAR)


main()
