from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyena_dna.training.signals import StopSignals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143)])
def test_a_signal_is_noted_and_nothing_is_interrupted(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.exit_code is None
        os.kill(os.getpid(), number)
        assert signals.exit_code == code
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, time\n"
        "from hyena_dna.training.signals import StopSignals\n"
        "with StopSignals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('first', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('second', flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert (found.returncode, found.stdout) == (130, "first\n")


def test_a_worker_ends_with_a_parent_that_was_killed() -> None:
    """The naive worker of a killed parent stays: it is adopted by another process and sleeps on."""
    source = """
import os, sys, time
from hyena_dna.training.signals import reset_in_worker
for prepare in (reset_in_worker, lambda _: None):
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(1)
        prepare(0)
        os.write(told, b".")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    print(pid)
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, cwd=root, check=False)
    assert parent.returncode == -signal.SIGKILL
    sound, naive = map(int, parent.stdout.split())
    try:
        deadline = time.monotonic() + 10
        while _is_running(sound) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _is_running(sound)
        assert _is_running(naive)
    finally:
        os.kill(naive, signal.SIGKILL)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
