from __future__ import annotations

import io
import time

import pytest

from hyena_dna.training.progress import Progress, format_seconds


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_file_gets_a_line_now_and_then_with_rate_and_time_left(clock: list[float]) -> None:
    stream = io.StringIO()
    shown = Progress(100, 100_000_000, stream=stream)
    for step in range(1, 61):
        clock[0] += 1.0
        shown.update(step, step * 1_000_000, 1.25)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "step 41/100" in lines[2]
    assert "1.00 M tokens/s" in lines[2]
    assert "59 s left" in lines[2]
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_one_line_that_updates_itself(clock: list[float]) -> None:
    stream = _Terminal()
    shown = Progress(3, 300, stream=stream)
    for step in (1, 2, 3):
        clock[0] += 1.0
        shown.update(step, step * 100, 1.0)
    shown.close()
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r") == 3


def test_quiet_writes_nothing(clock: list[float]) -> None:
    stream = _Terminal()
    shown = Progress(1, 1, quiet=True, stream=stream)
    shown.update(1, 1, 1.0)
    shown.note("validation")
    shown.close()
    assert stream.getvalue() == ""


def test_the_last_step_is_always_shown(clock: list[float]) -> None:
    stream = io.StringIO()
    shown = Progress(2, 2, stream=stream)
    shown.update(1, 1, 1.0)
    shown.update(2, 2, 0.5)
    assert "step 2/2" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (7265, "2 h 01 min"), (90000, "25 h 00 min")],
)
def test_durations_are_written_as_people_do(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
