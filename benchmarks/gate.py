"""How long the gate takes, and how much of it is hashing: `python -m benchmarks.gate BUNDLE POLICY`.

Prints seconds of the whole command in a process of its own, imports included, and of its parts in this process: the
policy, the check of the seal (every byte is hashed) and the rules. Each is the best of five.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from audit.cli.checking import Asked, check_place
from audit.errors import ExitCode
from audit.gate import gate
from audit.policy.files import read_policy
from audit.records import GateVerdict

_RUNS = 5


def parts(bundle: Path, policy_file: Path) -> tuple[dict[str, float], GateVerdict]:
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


def whole(bundle: Path, policy_file: Path) -> float:
    """Return the seconds of one `affidavit gate`, from the start of its process to its end."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "audit", "gate", str(bundle), "--policy", str(policy_file)]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if ended.returncode not in {ExitCode.PASS, ExitCode.GATE_FAILED}:
        raise SystemExit(f"affidavit gate ended with {ended.returncode}: no figure")
    return time.perf_counter() - begin


def main() -> None:
    """Print the best of five of the command and of each part."""
    bundle, policy = Path(sys.argv[1]), Path(sys.argv[2])
    commands = [whole(bundle, policy) for _ in range(_RUNS)]
    runs = [parts(bundle, policy) for _ in range(_RUNS)]
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    print(f"bundle   {size / 1e6:.0f} MB")
    print(f"command  {min(commands):.2f} s, longest {max(commands):.2f} s")
    for name in runs[0][0]:
        print(f"{name:<8} {min(times[name] for times, _ in runs):.2f} s")
    print(runs[0][1].conclusion)


if __name__ == "__main__":
    main()
