"""What a comparison of two sealed bundles costs: time, processor time and memory, step by step.

    OMP_NUM_THREADS=1 python -m benchmarks.difference base.bundle new.bundle
    OMP_NUM_THREADS=1 python -m benchmarks.difference base.bundle base.bundle --repeat 3 --json difference.json

Each run has a process of its own, from the two folders to the bytes of diff.json. The aim on full bundles is 60 seconds
and 2 GB. Equal bundles must give equal bytes, which is checked over the runs.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from audit.differences.comparing import compare_bundles
from audit.differences.parents import open_parent
from audit.digests import canonical_json, digest_bytes
from audit.progress import Silent
from audit.records import DiffMargins, as_json

_MOST_SECONDS, _MOST_MIB = 60.0, 2048.0


@dataclass(frozen=True, slots=True)
class Run:
    """One comparison in a process of its own; seconds of the clock, and of the processor where it says so."""

    verify: float
    compare: float
    processor: float
    peak_mib: float
    rows: int
    size_bytes: int
    digest: str

    @property
    def clock(self) -> float:
        """Return the seconds from the folders to the bytes."""
        return self.verify + self.compare


def measure(base: Path, new: Path) -> Run:
    """Verify and compare two bundles in this process.

    Raises:
        AffidavitError: a bundle does not verify, or the two are not comparable.
    """
    start = time.perf_counter()
    opened = [open_parent(folder, trusted=None, now=datetime.now(UTC)) for folder in (base, new)]
    verified = time.perf_counter()
    result = compare_bundles(opened[0], opened[1], margins=DiffMargins(), progress=Silent())
    data = canonical_json(as_json(result))
    return Run(
        verify=verified - start,
        compare=time.perf_counter() - verified,
        processor=time.process_time(),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        rows=len(result.rows),
        size_bytes=len(data),
        digest=digest_bytes(data),
    )


@click.command()
@click.argument("base", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("new", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--repeat", type=click.IntRange(1), default=2, show_default=True, help="How often.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=None, help="Write the numbers here.")
def main(*, base: Path, new: Path, repeat: int, json_path: Path | None) -> None:
    """Measure the comparison of BASE and NEW."""
    spawn = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(repeat):
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            runs.append(pool.submit(measure, base, new).result())
        run = runs[-1]
        print(
            f"verify {run.verify:.1f} s, compare {run.compare:.1f} s, processor {run.processor:.1f} s,"
            f" peak {run.peak_mib:.0f} MiB, {run.rows:,} rows, {run.size_bytes:,} bytes"
        )
    same = len({run.digest for run in runs}) == 1
    within = all(run.clock <= _MOST_SECONDS and run.peak_mib <= _MOST_MIB for run in runs)
    print(f"the same bytes each time: {same}; within {_MOST_SECONDS:.0f} s and {_MOST_MIB:.0f} MiB: {within}")
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(run) for run in runs], indent=2) + "\n", encoding="utf-8")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
