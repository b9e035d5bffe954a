"""What a fine-tuning run is: data, head, optimisation. One YAML file is one whole run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hyena_dna.config import Config
from hyena_dna.datasets.label_splits import OnOverlap
from hyena_dna.datasets.labels import TaskChoice
from hyena_dna.model.classifier import Pooling
from hyena_dna.model.config import HyenaConfig
from hyena_dna.training.config import Length

__all__ = [
    "FinetuneConfig",
    "FinetuneData",
    "FinetuneOptim",
    "FinetuneTrainer",
    "HeadConfig",
    "LoraSettings",
    "Mode",
    "Negatives",
    "ProbeConfig",
]

Mode = Literal["full", "probe", "lora", "scratch"]
Negatives = Literal["none", "gc", "dinucleotide"]
Baseline = Literal["gc", "kmer", "cnn"]
Positive = Annotated[float, Field(gt=0)]


class FinetuneData(Config):
    """Which labelled sequences are learnt from, and which are held out."""

    genome: str | None = Field(default=None, description="Genome FASTA of regions.")
    regions: str | None = Field(default=None, description="BED or narrowPeak of labelled regions.")
    train: str | None = Field(default=None, description="Table (CSV, TSV, Parquet) of sequence,label or of regions.")
    dev: str | None = Field(default=None, description="Table for validation.")
    test: str | None = Field(default=None, description="Table for testing.")
    fasta: dict[str, str] = Field(default_factory=dict, description="FASTA file of each class.")
    window: Length | None = Field(
        default=None, description="bp around the centre of each region or sequence; null: the whole of it."
    )
    stranded: bool = Field(default=False, description="Read regions on - from that strand.")
    label_column: str | None = Field(default=None, description="Number or name; several 0/1 columns: a,b,c.")
    split_column: str | None = Field(default=None, description="Number or name of the split column.")
    task: TaskChoice = Field(default="auto", description="Kind of task; auto: by the labels.")
    classes: tuple[str, ...] = Field(
        default=(), description="NAME=LABEL,LABEL (globs), in the order of the outputs; other labels are left out."
    )
    positive: str | None = Field(default=None, description="Binary: the class that the probability is of.")
    max_per_class: int | None = Field(
        default=None, ge=1, description="Most examples of a class; more are left out at random."
    )
    negatives: Negatives = Field(
        default="none", description="Background to add: GC-matched random regions, or dinucleotide shuffles."
    )
    negatives_per_positive: int = Field(default=1, ge=1, description="Background examples per given one.")
    negative_label: str = Field(default="background", min_length=1, description="Class of the added background.")
    val_contigs: tuple[str, ...] = Field(default=(), description="Globs of contigs to validate on.")
    test_contigs: tuple[str, ...] = Field(default=(), description="Globs of contigs to test on.")
    folds: str | None = Field(default=None, description="JSON of train, valid and test contigs.")
    k_folds: int | None = Field(default=None, ge=3, description="Number of random folds.")
    overlap: OnOverlap = Field(default="refuse", description="What to do with sequence shared between splits.")
    clip: bool = Field(default=False, description="Cut regions at the end of their contig.")
    rna: bool = Field(default=False, description="Read U as T.")


class HeadConfig(Config):
    """How hidden states become predictions, where the model itself is trained."""

    pooling: Literal["auto"] | Pooling = Field(
        default="mean+max", description="How positions are pooled; auto: mean or mean+max, by validation of a probe."
    )
    layers: Literal["all"] | tuple[int, ...] = Field(
        default=(), description="Blocks that are pooled side by side; empty: the last norm."
    )
    from_probe: bool = Field(
        default=False,
        description="Start from the head of a probe: training then refines features that already work, and may not get "
        "beyond them.",
    )
    strands: Literal["auto", "average", "both", "given"] = Field(
        default="auto",
        description="average: train on a random strand of each example, predict the mean of both; both: read both for "
        "each prediction, side by side; given: as sequences stand; auto: average or both, by validation of a probe.",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout of the pooled features.")


class FinetuneOptim(Config):
    """Optimiser, schedule, batch and stopping, where the model itself is trained."""

    epochs: int = Field(default=10, ge=1, description="Passes over the training examples.")
    batch_size: int = Field(default=64, ge=1, description="Examples per step.")
    lr: float = Field(default=6e-4, gt=0, description="Peak learning rate of the last block.")
    head_lr: float | None = Field(default=None, gt=0, description="Peak rate of the head; null: lr.")
    layer_decay: float = Field(
        default=0.9, gt=0, le=1, description="Each block below the last learns at this times the rate of the one above."
    )
    weight_decay: float = Field(default=0.1, ge=0, description="Decay of matrices.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="Learning rate after warm-up.")
    warmup_fraction: float = Field(default=0.05, ge=0, lt=1, description="Share of the steps with a rising rate.")
    min_lr_ratio: float = Field(default=0.05, ge=0, le=1, description="Last learning rate as a share of the peak.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    class_weights: Literal["none", "balanced"] | dict[str, Positive] = Field(
        default="none", description="Weight of each class in the loss; balanced: inverse to its frequency."
    )
    patience: int = Field(default=4, ge=1, description="Epochs without a better validation metric before stopping.")
    metric: str | None = Field(
        default=None, description="Validation metric that chooses the epoch; null: auroc, or spearman for regression."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Arithmetic of the linear layers; auto: bf16 on a GPU that has it, else fp32."
    )


class ProbeConfig(Config):
    """Linear model on the embeddings of a frozen language model."""

    layers: Literal["all"] | tuple[int, ...] = Field(
        default="all", description="Blocks that are pooled side by side; empty: the last norm."
    )
    pooling: Literal["auto"] | Pooling = Field(
        default="auto", description="How positions are pooled; auto: mean, mean+max or mean+std, by validation."
    )
    strands: Literal["auto", "mean", "each", "concat", "fwd"] = Field(
        default="auto",
        description="Learn from the mean of both strands, from each as an example, from both side by side, or from the "
        "given one; auto: mean or concat, by validation.",
    )
    strengths: tuple[Positive, ...] = Field(
        default=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0),
        min_length=1,
        description="Inverse strengths C of the penalty to try, weakest last; validation chooses.",
    )
    max_train: int | None = Field(default=None, ge=10, description="Most training examples, at random; null: all.")


class LoraSettings(Config):
    """Low-rank adapters (Hu et al. 2021)."""

    rank: int = Field(default=8, ge=1, description="Rank of the update of each matrix.")
    alpha: int = Field(default=16, ge=1, description="The update is scaled by alpha / rank.")
    train_filters: bool = Field(default=False, description="Train the filter networks too, whole.")


class FinetuneTrainer(Config):
    """Seeds, evaluation, checkpoints."""

    seed: int = Field(default=2222, ge=0, lt=2**32, description="Seed of head, order, dropout and random splits.")
    seeds: int = Field(default=1, ge=1, le=100, description="Runs with consecutive seeds.")
    bootstrap: int = Field(default=1000, ge=0, description="Resamples behind each interval.")
    baselines: tuple[Baseline, ...] = Field(default=("gc", "kmer", "cnn"), description="Simple models to compare with.")
    checkpoint_seconds: float = Field(default=20.0, ge=0, description="Least time between checkpoints.")
    graph: bool = Field(default=True, description="Record small steps on a GPU as CUDA graphs: no time for launches.")


class FinetuneConfig(Config):
    """A whole fine-tuning run.

    Raises:
        pydantic.ValidationError: a key is unknown, out of range, or does not fit the others.
    """

    mode: Mode = Field(default="full", description="full, probe (frozen), lora, or scratch (random weights).")
    model: HyenaConfig | None = Field(
        default=None, description="scratch: the architecture, where no --model gives it; otherwise null."
    )
    data: FinetuneData = Field(default_factory=FinetuneData)
    head: HeadConfig = Field(default_factory=HeadConfig)
    optim: FinetuneOptim = Field(default_factory=FinetuneOptim)
    probe: ProbeConfig = Field(default_factory=ProbeConfig)
    lora: LoraSettings = Field(default_factory=LoraSettings)
    trainer: FinetuneTrainer = Field(default_factory=FinetuneTrainer)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model is not None and self.mode != "scratch":
            raise ValueError("an architecture is for mode scratch; other modes take it from --model")
        if self.mode == "probe" and "attention" in (self.head.pooling, self.probe.pooling):
            raise ValueError("attention pooling is learnt by gradients; a probe has mean, max, std or last")
        if self.data.negatives == "gc" and self.data.fasta:
            raise ValueError("GC-matched background needs regions of a genome; FASTA files can have dinucleotide")
        return self
