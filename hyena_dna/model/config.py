"""What a model is: every number that its architecture and its initial weights depend on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["HyenaConfig"]


def _four_widths(data: dict[str, Any]) -> int:
    return 4 * int(data["d_model"])


class HyenaConfig(BaseModel):
    """The architecture of a `hyena_dna.model.model.HyenaDNA`.

    The defaults are those of the published HyenaDNA models, which differ from each other only in `d_model`, `n_layer`
    and `max_length`. Filters are evaluated at absolute positions divided by `max_length`, so `max_length` belongs to
    the weights: it must be the published value (1,026 for the 1k models, not 1,024) even where inputs are shorter.

    Raises:
        pydantic.ValidationError: a field is unknown, out of range, or does not fit the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    d_model: int = Field(ge=1, description="Width of the residual stream, in channels.")
    n_layer: int = Field(ge=1, description="Number of blocks, each a mixer and an MLP.")
    max_length: int = Field(ge=1, description="Longest input, in tokens (bp); the unit of filter positions.")
    d_inner: int = Field(default_factory=_four_widths, ge=1, description="Width of the MLP; 4 * d_model by default.")
    vocab_size: int = Field(default=12, ge=1, description="Number of real tokens.")
    pad_vocab_size_multiple: int = Field(
        default=8, ge=1, description="Embedding rows are padded to a multiple of this."
    )
    mixer: Literal["hyena", "attention"] = Field(default="hyena", description="What mixes positions in every block.")
    order: int = Field(default=2, ge=1, description="Number of gates N of the Hyena recurrence.")
    leading_conv: bool = Field(
        default=False,
        description="False: HyenaDNA, gate first, N - 1 long filters. True: the paper's form, N long filters.",
    )
    num_heads: int = Field(default=4, ge=1, description="Attention heads; used by the attention mixer only.")
    filter_order: int = Field(default=64, ge=1, description="Width of the implicit filter network.")
    filter_emb_dim: int = Field(
        default=5, ge=3, description="Positional features of a filter: time, cosines and sines."
    )
    filter_waves: Literal["linear", "octaves"] = Field(
        default="linear",
        description="Frequencies of these waves. linear: 0, 1, 2 ... periods over max_length, as published. octaves: "
        "periods are powers of two from max_length down to 4 bp, so that a few features tell near positions apart "
        "however long the filter.",
    )
    filter_num_inner_mlps: int = Field(
        default=2, ge=0, description="Hidden layers of the filter network after the first."
    )
    filter_freq: float = Field(default=10.0, description="Initial frequency of the filter network's sine.")
    modulation_shift: float = Field(
        default=0.05,
        description="Added to the decaying window of the filters, so that they never vanish. Not stored in published "
        "checkpoints: 0.05 in the released inference code, 0.0 in the released training code.",
    )
    modulation_fast_decay: float = Field(
        default=0.3, gt=0, description="Fraction of max_length at which the fastest window reaches its target."
    )
    modulation_slow_decay: float = Field(
        default=1.5, gt=0, description="Fraction of max_length at which the slowest window reaches its target."
    )
    modulation_rates: Literal["linear", "geometric"] = Field(
        default="linear",
        description="How the decay rates of the windows are spread from slowest to fastest; linear as published.",
    )
    modulation_target: float = Field(
        default=0.01, gt=0, lt=1, description="Window height that defines the decay rates."
    )
    short_filter_length: int = Field(default=3, ge=1, description="Taps of the depthwise short convolution, in bp.")
    embed_dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout probability of the token embeddings.")
    resid_dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout probability of every residual branch.")
    layer_norm_epsilon: float = Field(default=1e-5, gt=0, description="Added to the variance in every layer norm.")
    residual_in_fp32: bool = Field(default=True, description="Keep the residual stream in float32 at any precision.")
    tie_embeddings: bool = Field(default=True, description="Share one matrix between the embeddings and the LM head.")
    initializer_range: float = Field(default=0.02, gt=0, description="Standard deviation of initial weights.")

    @model_validator(mode="after")
    def _check(self) -> HyenaConfig:
        if self.mixer == "hyena" and not self.leading_conv and self.order < 2:
            raise ValueError("order must be at least 2 unless leading_conv is true: order 1 would have no long filter")
        if self.filter_emb_dim % 2 == 0:
            raise ValueError("filter_emb_dim must be odd: time, then as many cosines as sines")
        if self.mixer == "attention" and self.d_model % (2 * self.num_heads):
            raise ValueError(f"d_model {self.d_model} is not num_heads {self.num_heads} times an even head width")
        return self

    @property
    def padded_vocab_size(self) -> int:
        """Embedding rows: `vocab_size` rounded up to a multiple of `pad_vocab_size_multiple`."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple

    @property
    def n_filters(self) -> int:
        """Long filters of one mixer, each of `d_model` channels: N with a leading convolution, else N - 1."""
        return self.order if self.leading_conv else self.order - 1
