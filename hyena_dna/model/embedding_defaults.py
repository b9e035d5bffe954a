"""Which hidden states of a model make its embeddings, where nobody says otherwise."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EmbeddingDefaults"]


class EmbeddingDefaults(BaseModel):
    """The section `embedding` of a model's config.json: layers, pooling and strands in the words of `embed`.

    Raises:
        pydantic.ValidationError: a field is unknown or not text of its kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer: str = Field(default="last", min_length=1, description="Hidden states, as --layer takes them.")
    pool: str = Field(default="mean", min_length=1, description="How positions are combined, as --pool takes it.")
    strands: Literal["mean", "concat", "fwd"] = Field(default="mean", description="How strands are combined.")
