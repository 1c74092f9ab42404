"""How large and how fast the metrics of a long run are: `python -m benchmarks.metrics_growth [ROWS]`.

Every row has a step and seven values of random bits, which no compression makes smaller, and a wall-clock row beside it:
what a run writes that logs each of 10^6 steps. Written through the run folder as the recorder does; read as the report does.
"""

from __future__ import annotations

import random
import struct
import sys
import tempfile
import time
from pathlib import Path

from stepwell.engine.records.run_folder import RunFolder
from stepwell.report.page import write_report
from stepwell.report.tables import read_run

NAMES = ("loss", "lr", "grad_norm", "param_norm", "epoch", "clip_norm.clipped", "weight_norm.largest")


def random_value(draws: random.Random) -> float:
    """A positive finite float with random bits: 52 of the fraction, 9 of the exponent."""
    bits: float = struct.unpack("d", struct.pack("Q", draws.getrandbits(61) % (0x7FF << 52)))[0]
    return bits


def write(folder: RunFolder, rows: int) -> float:
    """Write so many rows; seconds per row."""
    draws, seconds = random.Random(0), 0.0
    for start in range(0, rows, 10_000):
        block = [
            {"step": step + 1, **{name: random_value(draws) for name in NAMES}}
            for step in range(start, min(start + 10_000, rows))
        ]
        begun = time.perf_counter()
        for row in block:
            folder.append("metrics/train", row)
            folder.append("timing", {"step": row["step"], "seconds": round(time.perf_counter() + row["step"] * 0.01, 3)})
        seconds += time.perf_counter() - begun
    return seconds / rows


def main(rows: int) -> None:
    """Write, measure, read; one line per figure."""
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        folder.create("job: growth\n")
        per_row = write(folder, rows)
        folder.close()
        sizes = [path.stat().st_size for path in folder.path.rglob("*") if path.is_file()]
        begun, worked = time.perf_counter(), time.process_time()
        run = read_run(folder.path)
        opened, opened_work = time.perf_counter() - begun, time.process_time() - worked
        begun, worked = time.perf_counter(), time.process_time()
        page = write_report(folder.path)
        reported, reported_work = time.perf_counter() - begun, time.process_time() - worked
        points, mebibytes = len(run.train["step"]), page.stat().st_size / 2**20
        print(f"{rows} rows of {1 + len(NAMES)} columns, and as many of timing")
        print(f"written: {1e6 * per_row:.1f} us per step (both rows)")
        print(f"size: {sum(sizes) / 2**20:.1f} MiB in {len(sizes)} files")
        print(f"opened for the report: {opened:.2f} s ({opened_work:.2f} s of the processor), {points} points a column")
        print(f"whole report with pictures: {reported:.2f} s ({reported_work:.2f} s of the processor), {mebibytes:.2f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
