"""What it costs to render both reports of a bundle again, and whether two renders are the same bytes.

    OMP_NUM_THREADS=1 python -m benchmarks.reports report.bundle
    OMP_NUM_THREADS=1 python -m benchmarks.reports report.bundle --json reports.json

Each render has a process of its own, from findings.json on disk to the bytes of the report, unsigned; nothing is
written. Two times are given: the clock's, and the processor's, which other work on the machine disturbs less. The peak
is the whole process's; `above imports` is what of it the render itself took.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import click
import pikepdf

from audit.printing import read_record
from audit.signing.bundle_files import FINDINGS, MANIFEST
from reports.html import render_html
from reports.pdf import check_pdf_libraries, render_pdf

_Result = TypeVar("_Result")


class Medium(StrEnum):
    """A report's form."""

    HTML = "html"
    PDF = "pdf"


@dataclass(frozen=True, slots=True)
class Step:
    """What one step took, in seconds of the clock and of the processor."""

    clock: float
    processor: float


@dataclass(frozen=True, slots=True)
class Render:
    """One report made in a process of its own; `pages` is None where there are none."""

    medium: Medium
    read: Step
    view: Step
    render: Step
    size_bytes: int
    pages: int | None
    peak_mib: float
    above_imports_mib: float
    digest: str

    @property
    def clock(self) -> float:
        """Return the seconds from findings.json to the report's bytes."""
        return self.read.clock + self.view.clock + self.render.clock

    @property
    def processor(self) -> float:
        """Return the same in seconds of the processor."""
        return self.read.processor + self.view.processor + self.render.processor


def measure(bundle: Path, medium: Medium) -> Render:
    """Render one report of a bundle in this process.

    Raises:
        EvidenceError: the bundle holds no findings.json or manifest.json, or one that cannot be read.
    """
    if medium is Medium.PDF:
        check_pdf_libraries()
    imports = _peak_mib()
    record, read = _timed(lambda: read_record(bundle))
    view, viewed = _timed(lambda: record.view)
    if medium is Medium.HTML:
        report, rendered = _timed(lambda: render_html(view, findings_json=record.findings_json))
    else:
        attachments = {FINDINGS: record.findings_json, MANIFEST: record.manifest_json}
        report, rendered = _timed(lambda: render_pdf(view, attachments=attachments, created_at=record.created_at))
    peak = _peak_mib()
    return Render(
        medium=medium,
        read=read,
        view=viewed,
        render=rendered,
        size_bytes=len(report),
        pages=_pages(report) if medium is Medium.PDF else None,
        peak_mib=peak,
        above_imports_mib=peak - imports,
        digest=hashlib.sha256(report).hexdigest(),
    )


def _timed(work: Callable[[], _Result]) -> tuple[_Result, Step]:
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, Step(time.perf_counter() - clock, time.process_time() - processor)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _pages(report: bytes) -> int:
    with pikepdf.open(io.BytesIO(report)) as document:
        return len(document.pages)


def _alone(bundle: Path, medium: Medium) -> Render:
    """Measure in a fresh process: a peak of memory is the largest that its process ever had."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, bundle, medium).result()


def table_of(renders: list[Render]) -> str:
    """Return the figures as lines."""
    lines = []
    for one in renders:
        pages = "" if one.pages is None else f", {one.pages} pages"
        lines.append(
            f"{one.medium.value}: {one.clock:.1f} s by the clock, {one.processor:.1f} s of the processor"
            f" (reading {one.read.processor:.1f}, view {one.view.processor:.1f}, rendering {one.render.processor:.1f});"
            f" {one.size_bytes / 1e6:.2f} MB{pages}; peak {one.peak_mib:.0f} MiB, {one.above_imports_mib:.0f} above"
            " imports"
        )
    for medium in Medium:
        digests = {one.digest for one in renders if one.medium is medium}
        lines.append(f"{medium.value}: two renders are {'the same bytes' if len(digests) == 1 else 'DIFFERENT'}")
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here as well.")
def main(*, bundle: Path, path: Path | None) -> None:
    """Render both reports of BUNDLE twice and print what it cost."""
    renders = [_alone(bundle, medium) for medium in Medium for _ in range(2)]
    print(table_of(renders))
    if path is not None:
        path.write_text(json.dumps([asdict(one) for one in renders], indent=1))


if __name__ == "__main__":
    main()
