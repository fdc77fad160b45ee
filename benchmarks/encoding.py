"""What the PNG that Safelight delivers costs, against Pillow's default, on photographs of 1024 x 1024 pixels.

The two are timed in turn, so that a busy machine slows both, and CPU time is compared, so that waiting does not count.
Run: ``python benchmarks/encoding.py``. Prints CPU milliseconds, bytes, and our share of Pillow's.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from importlib.resources import files
from statistics import median

import numpy as np
from PIL import Image

from safelight.encoding import encode_png

SIDE = 1024
ROUNDS = 9
PHOTOS = ("china.jpg", "flower.jpg")
"""The two photographs (CC BY) that scikit-learn ships."""


def photo(name: str) -> Image.Image:
    """Return a photograph, mirrored to the right and downwards until it fills ``SIDE`` x ``SIDE`` pixels."""
    with Image.open(str(files("sklearn.datasets.images") / name)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    wide = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    high = np.concatenate([wide, wide[::-1], wide], axis=0)
    return Image.fromarray(high[:SIDE, :SIDE].copy())


def pillow_png(image: Image.Image) -> bytes:
    """Encode as Pillow does where it is told nothing."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def timed(work: Callable[[Image.Image], bytes], image: Image.Image) -> tuple[float, bytes]:
    """Return CPU milliseconds and the file."""
    started = time.process_time()
    data = work(image)
    return 1e3 * (time.process_time() - started), data


def main() -> None:
    """Print a line for each photograph."""
    print("photo        ours ms  Pillow ms  CPU ratio  bytes ratio  pixels equal")
    for name in PHOTOS:
        image = photo(name)
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ms, our_file = timed(lambda image: encode_png(image).data, image)
            ours.append(ms)
            ms, their_file = timed(pillow_png, image)
            theirs.append(ms)
        ratio = median(ours) / median(theirs)
        equal = Image.open(io.BytesIO(our_file)).tobytes() == image.tobytes()
        size = len(our_file) / len(their_file)
        print(f"{name:11} {median(ours):8.1f} {median(theirs):10.1f} {ratio:10.3f} {size:12.3f}  {equal}")


if __name__ == "__main__":
    main()
