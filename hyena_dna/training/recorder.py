"""Writes what steps and validations measure: rows of the logs, and the sums that wait for the next row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from lightning.pytorch.loggers import Logger

from hyena_dna.training.metrics_log import METRIC_COLUMNS, SPEED_COLUMNS, CsvLog, genome_column
from hyena_dna.training.plan import StepPlan
from hyena_dna.training.readout import StepNumbers
from hyena_dna.training.run_folder import RunFolder
from hyena_dna.training.validation import Validation

__all__ = ["PartialRow", "Recorder"]


@dataclass
class PartialRow:
    """Sums over the steps since the last row."""

    nll: float = 0.0
    weight: float = 0.0
    grad_norm: float = 0.0
    steps: int = 0

    def add(self, numbers: StepNumbers) -> None:
        """Add one step."""
        self.nll += numbers.nll
        self.weight += numbers.weight
        self.grad_norm += numbers.grad_norm
        self.steps += 1


class Recorder:
    """The logs of a run.

    Args:
        folder: where `metrics.csv` and `speed.csv` are.
        plan: the steps of the run.
        log_every: steps per row.
        lr: the learning rate of a step.
        genomes: names of the genomes where there are several: each has a column of validations.
        offsets: sizes that the files had at the checkpoint; empty for a fresh start.
        partial: sums that the checkpoint holds.
        logger: a second log.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: StepPlan,
        *,
        log_every: int,
        lr: Callable[[int], float],
        genomes: Sequence[str],
        offsets: dict[str, int],
        partial: dict[str, float],
        logger: Logger | None,
    ) -> None:
        self._plan = plan
        self._log_every = log_every
        self._lr = lr
        self._logger = logger
        self._partial = PartialRow(**partial)  # type: ignore[arg-type]
        columns = (*METRIC_COLUMNS, *(genome_column(name) for name in genomes))
        self._metrics = CsvLog(folder.metrics, columns, offset=offsets.get("metrics"))
        self._speed = CsvLog(folder.speed, SPEED_COLUMNS, offset=offsets.get("speed"))
        self._last: tuple[int, float] | None = None

    def steps(self, arrived: Iterable[StepNumbers], seconds: float) -> None:
        """Take the numbers of steps, in order.

        Args:
            arrived: the numbers.
            seconds: time spent training so far.
        """
        for numbers in arrived:
            self._partial.add(numbers)
            done = numbers.step + 1
            if done % self._log_every == 0 or done == self._plan.total_steps:
                self._row(done, seconds)

    def validation(self, done: int, result: Validation) -> None:
        """Write the row of a validation after `done` steps."""
        row = {
            "val_loss": result.loss,
            "val_perplexity": result.perplexity,
            "val_bits_per_base": result.bits_per_base,
            **{genome_column(name): one.bits_per_base for name, one in result.genomes.items()},
        }
        self._write(done, row)

    def sync(self) -> tuple[dict[str, int], dict[str, float]]:
        """Make the rows durable; returns the sizes of the files and the sums since the last row, for a checkpoint."""
        return {"metrics": self._metrics.sync(), "speed": self._speed.sync()}, asdict(self._partial)

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        self._speed.close()
        if self._logger is not None:
            self._logger.finalize("success")

    def _row(self, done: int, seconds: float) -> None:
        sums, self._partial = self._partial, PartialRow()
        row: dict[str, int | float] = {
            "window": self._plan.shape(done - 1).length,
            "lr": self._lr(done - 1),
            "grad_norm": sums.grad_norm / sums.steps,
        }
        if sums.weight > 0:
            row["loss"] = sums.nll / sums.weight
        self._write(done, row)
        tokens = self._plan.tokens_before(done)
        if self._last is not None and seconds > self._last[1]:
            rate = (tokens - self._last[0]) / (seconds - self._last[1])
            self._speed.write({"step": done, "tokens": tokens, "seconds": seconds, "tokens_per_s": rate})
            self._last = (tokens, seconds)
        elif self._last is None:
            self._last = (tokens, seconds)

    def _write(self, done: int, row: dict[str, int | float]) -> None:
        tokens = self._plan.tokens_before(done)
        self._metrics.write({"step": done, "tokens": tokens, **row})
        if self._logger is not None:
            self._logger.log_metrics({name: float(value) for name, value in row.items()}, step=done)
