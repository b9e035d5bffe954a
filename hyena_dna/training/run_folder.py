"""The folder of a run: what lies where, who may write, and what a new run does with an old folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hyena_dna.errors import InputError
from hyena_dna.files import exclusive_lock

__all__ = ["RunFolder", "open_run_folder"]

_FOLDERS = ("checkpoints", "model", "tensorboard", "wandb")

_held_locks: set[int] = set()


def _let_go() -> None:
    # A data worker outlives a killed run by some seconds; with the lock in its hands nobody could resume at once.
    while _held_locks:
        os.close(_held_locks.pop())


os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Losses by step."""
        return self.path / "metrics.csv"

    @property
    def speed(self) -> Path:
        """Tokens per second by step."""
        return self.path / "speed.csv"

    @property
    def record(self) -> Path:
        """What ran on what: `run.json`."""
        return self.path / "run.json"

    @property
    def markov(self) -> Path:
        """Bits per base of the Markov models, with the fingerprint of what they were fitted on."""
        return self.path / "markov.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def diverged(self) -> Path:
        """Where the windows of a diverged step are listed."""
        return self.path / "diverged.json"

    @property
    def model(self) -> Path:
        """The trained model."""
        return self.path / "model"

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / "report.html"

    @property
    def evaluation(self) -> Path:
        """What a fine-tuned model reaches on held-out examples, with intervals and baselines: `metrics.json`."""
        return self.path / "metrics.json"

    @property
    def predictions(self) -> Path:
        """What a fine-tuned model says of each held-out example."""
        return self.path / "predictions.tsv"

    def owns(self, entry: Path) -> bool:
        """Whether something in the folder is a run's: a file of the run, a temporary one, or a logger's folder."""
        own = {".lock", *(file.name for file in self.files), *_FOLDERS}
        return entry.name in own or ".tmp." in entry.name or ".old." in entry.name

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of a run, but for those in subfolders."""
        return (self.config, self.metrics, self.speed, self.record, self.markov, self.diverged,
                self.report, self.evaluation, self.predictions)  # fmt: skip

    def has_run(self) -> bool:
        """Whether a run has begun here."""
        return self.config.is_file()


@contextlib.contextmanager
def open_run_folder(path: Path, *, resume: bool, force: bool) -> Iterator[RunFolder]:
    """Make or enter a run's folder and hold its lock.

    Args:
        path: the folder; parents are made.
        resume: an earlier run may be there and is kept.
        force: an earlier run may be there and is deleted.

    Raises:
        InputError: another process uses the folder, it holds a run and neither `resume` nor `force` is on, it holds
            files that are no run's, or it cannot be written.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise InputError("a file is where the run's folder should be", file=path)
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(exclusive_lock(path / ".lock", wait=False))
            _held_locks.add(lock)
            stack.callback(_held_locks.discard, lock)
            _enter(folder, resume=resume, force=force)
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=error.filename or path) from None
        yield folder


def _enter(folder: RunFolder, *, resume: bool, force: bool) -> None:
    if folder.has_run() and not resume:
        if not force:
            raise InputError("holds a run already", file=folder.path, remedy="add --resume, --force, or another -o")
        _clear(folder)
    foreign = [entry.name for entry in folder.path.iterdir() if not folder.owns(entry)]
    if foreign:
        raise InputError(f"the folder holds {foreign[0]!r}, which is no part of a run", file=folder.path,
                         remedy="choose another -o")  # fmt: skip
    folder.checkpoints.mkdir(exist_ok=True)
    _sweep(folder)
    _probe(folder.checkpoints)


def _clear(folder: RunFolder) -> None:
    """Delete a run's own files and nothing else."""
    # The configuration goes first: without it the rest is no run that anything would resume.
    for file in folder.files:
        file.unlink(missing_ok=True)
    for subfolder in (folder.checkpoints, folder.model):
        if subfolder.is_dir():
            shutil.rmtree(subfolder)


def _sweep(folder: RunFolder) -> None:
    """Delete temporary files that a killed process left; the lock says that nobody is writing them."""
    inner = [entry for entry in folder.checkpoints.iterdir() if entry.is_dir()]
    for place in (folder.path, folder.checkpoints, *inner):
        for left in place.glob(".*.tmp.*"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _probe(folder: Path) -> None:
    """Write and delete a small file, so that a folder that refuses writes is found before the first checkpoint."""
    probe = folder / f".{secrets.token_hex(6)}.tmp.probe"
    try:
        probe.write_bytes(b"\0" * 4096)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=folder) from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
