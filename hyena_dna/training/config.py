"""What a pretraining run is: model, data, optimisation, and how the loop behaves. One YAML file is one whole run."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from hyena_dna.config import Config
from hyena_dna.errors import InputError
from hyena_dna.lengths import parse_length
from hyena_dna.model.config import HyenaConfig
from hyena_dna.training.genomes import genome_names

__all__ = ["RESUMABLE", "DataConfig", "Duration", "OptimConfig", "PretrainConfig", "Stage", "TrainerConfig"]

RESUMABLE = frozenset(
    {
        "trainer.workers",
        "trainer.token_store",
        "trainer.checkpoint_every",
        "trainer.keep_checkpoints",
        "trainer.recompute",
        "trainer.graph",
        "trainer.logger",
    }
)
"""Keys that a resumed run may change, because no number of the run depends on them."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]+)?)\s*(k|M|G|)\s*(steps?|tokens?|epochs?)", re.IGNORECASE)
_LONGEST = 1e15
_MULTIPLES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class Duration(NamedTuple):
    """How long a run is, in one of three units."""

    amount: float
    unit: Literal["steps", "tokens", "epochs"]


def _length(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_length(value)
    except InputError as error:
        raise ValueError(error.reason) from None


Weight = Annotated[float, Field(gt=0)]
Length = Annotated[int, BeforeValidator(_length), Field(ge=2)]


class Stage(Config):
    """One stage of the sequence-length warm-up."""

    tokens: int = Field(ge=1, description="Tokens trained in this stage; rounded up to whole steps.")
    length: Length = Field(description="Window length of this stage, in bp.")


class DataConfig(Config):
    """Which sequence is trained on, which is held out, and how windows are drawn.

    Of several genomes, a contig, glob or BED place may be that of one: `GENOME:CONTIG`, with the name of the FASTA file
    without suffixes.
    """

    genomes: tuple[str, ...] = Field(default=(), description="Genome FASTA files; --genome wins over this.")
    bam: str | None = Field(default=None, description="Aligned reads (BAM, CRAM) to train on instead of the genome.")
    bam_mode: Literal["reads", "consensus"] = Field(
        default="reads", description="Train on the reads as sequenced, or on their per-base majority consensus."
    )
    min_depth: int = Field(default=3, ge=1, description="Reads that a consensus base needs; below it the base is N.")
    min_mapping_quality: int = Field(default=1, ge=0, le=255, description="Reads mapped with less are left out.")
    window: Length = Field(description="Window length, in bp: the number of tokens that the model sees at once.")
    contigs: tuple[str, ...] = Field(default=(), description="Globs of contigs to use; empty: all primary contigs.")
    exclude_contigs: tuple[str, ...] = Field(default=(), description="Globs of contigs to leave out.")
    val_contigs: tuple[str, ...] = Field(default=(), description="Globs of held-out contigs; empty: chosen by rule.")
    test_contigs: tuple[str, ...] = Field(default=(), description="Globs of contigs never touched by the run.")
    folds: str | None = Field(
        default=None, description="JSON of train, valid and test contigs, or BED with a split column; instead of globs."
    )
    exclude: str | None = Field(default=None, description="BED of regions that no window may touch.")
    max_n_fraction: float = Field(default=0.05, ge=0, le=1, description="Windows with more N are not drawn.")
    reverse_complement: bool = Field(default=True, description="Read half of the training windows on the other strand.")
    weight_n: float = Field(default=0.0, ge=0, le=1, description="Loss weight of N targets.")
    weight_soft_masked: float = Field(default=1.0, ge=0, le=1, description="Loss weight of lower-case targets.")
    genome_weights: tuple[Weight, ...] | dict[str, Weight] = Field(
        default=(),
        description="Share of windows from each genome, in order or by name; empty: in proportion to their admissible "
        "windows.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.folds and (self.val_contigs or self.test_contigs):
            raise ValueError("folds and val_contigs/test_contigs exclude each other")
        if self.genome_weights and self.genomes:
            names = genome_names(self.genomes)
            if len(self.genome_weights) != len(names):
                raise ValueError(f"{len(self.genome_weights)} genome_weights for {len(names)} genomes")
            if isinstance(self.genome_weights, dict) and set(self.genome_weights) != set(names):
                raise ValueError(f"genome_weights are of {', '.join(self.genome_weights)}; genomes: {', '.join(names)}")
        return self

    def weight(self, index: int, name: str) -> float | None:
        """The share of windows from a genome; None where none is given."""
        if not self.genome_weights:
            return None
        return self.genome_weights[name] if isinstance(self.genome_weights, dict) else self.genome_weights[index]


class OptimConfig(Config):
    """Optimiser, schedule, batch, precision and length of the run."""

    duration: str = Field(description="Length of the run: '10000 steps', '5G tokens' or '60 epochs'.")
    lr: float = Field(default=6e-4, gt=0, description="Peak learning rate.")
    filter_lr: float | None = Field(default=None, gt=0, description="Peak rate of the filter networks; null: lr.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.999), description="AdamW's decay rates of the two moments."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="Decay of matrices; see hyena_dna.training.optim.")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="Learning rate after warm-up.")
    warmup_fraction: float = Field(default=0.01, ge=0, lt=1, description="Share of the steps with a rising rate.")
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1, description="Last learning rate as a share of the peak.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient; longer ones are scaled down.")
    batch_tokens: int = Field(default=262_144, ge=2, description="Tokens of one step, at every window length.")
    accumulate: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        default="auto", description="Forward passes that one step is split into; auto: as memory asks."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Arithmetic of the linear layers; auto: bf16 on a GPU that has it, else fp32."
    )
    length_warmup: tuple[Stage, ...] = Field(
        default=(), description="Stages of shorter windows before data.window, in order."
    )

    @property
    def length(self) -> Duration:
        """The parsed `duration`."""
        match = _DURATION.fullmatch(self.duration.strip())
        if match is None:
            raise ValueError("a duration is a number and a unit: '10000 steps', '5G tokens' or '60 epochs'")
        number, multiple, unit = match.groups()
        plural: Literal["steps", "tokens", "epochs"]
        plural = "steps" if unit[0] in "sS" else "tokens" if unit[0] in "tT" else "epochs"
        return Duration(float(number) * _MULTIPLES[multiple.lower()], plural)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.length.amount < _LONGEST:
            raise ValueError("a duration is more than zero and less than 1e15")
        lengths = [stage.length for stage in self.length_warmup]
        if lengths != sorted(lengths):
            raise ValueError("the stages of length_warmup go from short to long")
        return self


class TrainerConfig(Config):
    """How the loop behaves: validation, logging, checkpoints, machine settings."""

    seed: int = Field(default=2222, ge=0, lt=2**63, description="Seed of weights, windows and dropout.")
    log_every: int = Field(default=10, ge=1, description="Steps per row of metrics.csv; the row averages over them.")
    val_every: int = Field(default=1000, ge=1, description="Steps between validations; one more is at the end.")
    val_windows: int = Field(
        default=512, ge=1, description="Fixed validation windows, shared among genomes, spread evenly."
    )
    checkpoint_every: int = Field(default=500, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoints to keep, besides the best one.")
    recompute: bool = Field(default=False, description="Recompute activations in the backward pass: less memory.")
    graph: bool = Field(default=True, description="Record small steps on a GPU as CUDA graphs: no time for launches.")
    workers: int = Field(default=0, ge=0, le=64, description="Processes that cut batches, where the CPU cuts them.")
    token_store: Literal["auto", "device", "host"] = Field(
        default="auto", description="Cut windows on the GPU (whole genome in its memory) or on the CPU."
    )
    logger: Literal["csv", "tensorboard", "wandb"] = Field(default="csv", description="A second log beside the CSV.")
    markov: bool = Field(default=True, description="Fit Markov models of order 0 to 12 on the same training segments.")


class PretrainConfig(Config):
    """A whole pretraining run.

    Raises:
        pydantic.ValidationError: a key is unknown, out of range, or does not fit the others.
    """

    model: HyenaConfig = Field(description="Architecture.")
    data: DataConfig = Field(description="Sequence, splits and windows.")
    optim: OptimConfig = Field(description="Optimisation.")
    trainer: TrainerConfig = Field(default_factory=TrainerConfig, description="Behaviour of the loop.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        window, limit = self.data.window, self.model.max_length
        if window > limit:
            raise ValueError(f"data.window {window} is longer than model.max_length {limit}")
        if self.optim.batch_tokens < window:
            raise ValueError(f"optim.batch_tokens {self.optim.batch_tokens} is less than one data.window of {window}")
        for stage in self.optim.length_warmup:
            if stage.length > window:
                raise ValueError(f"a length_warmup stage of {stage.length} is longer than data.window {window}")
        return self
