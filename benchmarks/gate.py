"""How long the gate takes, and how much of it is hashing: `python -m benchmarks.gate BUNDLE POLICY`.

Prints seconds of the imports, the policy, the check of the seal (every byte is hashed) and the rules: the best of five.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

STARTED = time.perf_counter()

from audit.cli.checking import Asked, check_place  # noqa: E402 - the time of the imports is measured
from audit.gate import gate  # noqa: E402
from audit.policy.files import read_policy  # noqa: E402
from audit.records import GateVerdict  # noqa: E402


def measured(bundle: Path, policy_file: Path) -> tuple[dict[str, float], GateVerdict]:
    """Return seconds by part of one judgement, and the verdict."""
    now = datetime.now(UTC)
    moments = [time.perf_counter()]
    policy = read_policy(policy_file, today=now.date())
    moments.append(time.perf_counter())
    seal = check_place(bundle, Asked(now))
    moments.append(time.perf_counter())
    verdict = gate(bundle, policy, seal, today=now.date())
    moments.append(time.perf_counter())
    names = ("policy", "seal", "rules")
    return {name: moments[n + 1] - moments[n] for n, name in enumerate(names)}, verdict


def main() -> None:
    """Print the best of five of each part."""
    imports = time.perf_counter() - STARTED
    bundle, policy = Path(sys.argv[1]), Path(sys.argv[2])
    runs = [measured(bundle, policy) for _ in range(5)]
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    print(f"bundle   {size / 1e6:.0f} MB")
    print(f"imports  {imports:.2f} s")
    for name in runs[0][0]:
        print(f"{name:<8} {min(times[name] for times, _ in runs):.2f} s")
    print(runs[0][1].conclusion)


if __name__ == "__main__":
    main()
