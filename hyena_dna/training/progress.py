"""Progress on stderr: one line that updates itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress", "format_seconds"]

_LINE_SECONDS = 20.0
_TERMINAL_SECONDS = 0.5
_WINDOW_SECONDS = 30.0


def format_seconds(seconds: float) -> str:
    """A duration as people write it: `42 s`, `3 min 10 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Shows step, loss, tokens per second and time left.

    Args:
        total_steps: steps of the run.
        total_tokens: tokens of the run.
        quiet: show nothing.
        stream: where to write; stderr by default.
    """

    def __init__(self, total_steps: int, total_tokens: int, *, quiet: bool = False, stream: TextIO | None = None):
        self._total_steps = total_steps
        self._total_tokens = total_tokens
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._shown = 0.0
        self._history: list[tuple[float, int]] = []

    def update(self, step: int, tokens: int, loss: float) -> None:
        """Take note of the state after `step` steps; writes only when the last line is old enough."""
        now = time.monotonic()
        self._history.append((now, tokens))
        while len(self._history) > 2 and now - self._history[1][0] > _WINDOW_SECONDS:
            self._history.pop(0)
        interval = _TERMINAL_SECONDS if self._terminal else _LINE_SECONDS
        if not self._quiet and (now - self._shown >= interval or step == self._total_steps):
            self._shown = now
            self._write(self._line(step, tokens, loss))

    def note(self, text: str) -> None:
        """Write a line of its own."""
        if not self._quiet:
            self._stream.write(f"\r\x1b[2K{text}\n" if self._terminal else f"{text}\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the cursor on a new line."""
        if self._terminal and self._shown and not self._quiet:
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, step: int, tokens: int, loss: float) -> str:
        (then, before), (now, _) = self._history[0], self._history[-1]
        line = f"step {step:,}/{self._total_steps:,}  {tokens / 1e6:,.1f} M tokens  loss {loss:.4f}"
        if now > then:
            rate = (tokens - before) / (now - then)
            left = (self._total_tokens - tokens) / rate if rate else 0.0
            line += f"  {_format_rate(rate)}  {format_seconds(left)} left"
        return line

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\x1b[2K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()


def _format_rate(rate: float) -> str:
    return f"{rate / 1e6:.2f} M tokens/s" if rate >= 1e6 else f"{rate / 1e3:.1f} k tokens/s"
