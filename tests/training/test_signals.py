from __future__ import annotations

import os
import signal
import subprocess
import sys
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
