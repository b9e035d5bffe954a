"""Runs the command line in forked processes, so that a test which starts dozens of them imports torch once.

Reads one JSON list of arguments per line, forks a process that runs `hyena-dna` with them, and answers with two lines:
its process id, and when it ended the exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import sys

import lightning.pytorch

from hyena_dna.training import estimate, pretrain
from pipelines.cli import main

assert lightning.pytorch
assert estimate
assert pretrain


def serve() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            arguments = json.loads(line)
            sys.argv = ["hyena-dna", *arguments]
            # What the run prints goes to stderr, for answers have stdout to themselves.
            os.dup2(2, 1)
            main(arguments)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
