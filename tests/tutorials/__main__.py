"""Run tutorials again, and write their outputs and pictures: `python -m tests.tutorials [NN ...]`, or all of them."""

import subprocess
import sys
import time

import nbformat

from .notebooks import PATHS, client, picture, plain, read

if __name__ == "__main__":
    for path in PATHS:
        if len(sys.argv) == 1 or path.name.split("_")[0] in sys.argv[1:]:
            notebook, start = read(path), time.perf_counter()
            client(notebook).execute(stderr=subprocess.DEVNULL)  # where a kernel says how it talks
            path.write_text(nbformat.writes(plain(notebook), indent=1) + "\n", encoding="utf-8")
            suffix, image = picture(notebook)
            (path.parent / "pictures" / path.stem).with_suffix(suffix).write_bytes(image)
            print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)
