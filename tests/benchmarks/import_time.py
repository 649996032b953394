"""How long does `import minigrad` take beyond `import numpy`?

    python -m tests.benchmarks.import_time

Milliseconds, the median of 21 fresh processes each, which take turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

PROGRAM = """
import time; start = time.perf_counter()
import numpy; middle = time.perf_counter()
import minigrad; end = time.perf_counter()
print(middle - start, end - middle)
"""


def main() -> None:
    """Measure and print."""
    times = []
    for _ in range(21):
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        times.append([float(part) * 1e3 for part in done.stdout.split()])
    numpy, minigrad = (statistics.median(column) for column in zip(*times))
    print(f"import numpy {numpy:.0f} ms, import minigrad {minigrad:.0f} ms more")


if __name__ == "__main__":
    main()
