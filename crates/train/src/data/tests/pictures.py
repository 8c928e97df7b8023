"""Odd PNG and JPEG files and the colours that Pillow reads in them, for pictures.json: `python pictures.py > pictures.json`
(Pillow 9 or later). Each case is a file of 6 by 5 pixels in hexadecimal and its bytes after `convert("RGB")`.
"""

import io, json, random, struct, zlib
import numpy as np
from PIL import Image

W, H = 6, 5
random.seed(22)
rng = np.random.default_rng(22)
cases = []


def add(name, file, turned=False):
    image = Image.open(io.BytesIO(file)).convert("RGB")
    assert image.size == (W, H)
    cases.append({"name": name, "file": file.hex(), "rgb": image.tobytes().hex(), "turned": turned})


def save(image, kind, **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def random_image(mode, channels):
    shape = (H, W) if channels == 1 else (H, W, channels)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)


def png(depth, colour, rows):
    """A PNG that Pillow does not write: 16 bits a channel."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


rgb = random_image("RGB", 3)
exif = Image.Exif()
exif[0x0112] = 6
jpeg = save(rgb, "jpeg", quality=80)
add("JPEG", jpeg)
add("progressive", save(rgb, "jpeg", progressive=True))
add("grey", save(rgb.convert("L"), "jpeg"))
add("CMYK", save(random_image("CMYK", 4), "jpeg"))
add("turned by EXIF", save(rgb, "jpeg", exif=exif), True)
add("followed by a film that looks like a scan", jpeg + b"\0\0\0\x20ftypmp42" + bytes.fromhex("ffda") + bytes(40))
add("followed by another image", jpeg + save(rgb.transpose(Image.ROTATE_180), "jpeg"))
add("followed by a damaged image", jpeg + jpeg[: len(jpeg) // 2])
add("with restarts", save(rgb, "jpeg", restart_marker_blocks=1))
for mode, channels in [("RGB", 3), ("L", 1), ("RGBA", 4), ("LA", 2)]:
    add(f"PNG {mode}", save(random_image(mode, channels), "png"))
add("PNG palette", save(rgb.quantize(7), "png"))
add("PNG palette with transparency", save(rgb.quantize(7), "png", transparency=2))
add("PNG of one bit", save(rgb.convert("1"), "png"))
add("PNG turned by EXIF", save(rgb, "png", exif=exif), True)
for name, colour, channels in [("RGB", 2, 3), ("RGBA", 6, 4)]:
    add(f"PNG {name} of 16 bits", png(16, colour, [random.randbytes(2 * channels * W) for _ in range(H)]))
print(json.dumps(cases))
