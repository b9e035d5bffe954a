"""The language model: backbone and LM head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from hyena_dna.errors import InputError
from hyena_dna.model.backbone import Backbone, BackboneOutput
from hyena_dna.model.config import HyenaConfig
from hyena_dna.model.embedding_defaults import EmbeddingDefaults
from hyena_dna.model.init import init_weights
from hyena_dna.model.operator import HyenaOperator
from hyena_dna.ops.long_conv import Implementation, Precision
from hyena_dna.tokenizer import Tokenizer

__all__ = ["HyenaDNA", "HyenaOutput"]


class HyenaOutput(NamedTuple):
    """What a forward pass computes."""

    logits: torch.Tensor
    """(batch, length, padded vocab) of the next token; rows at and after `config.vocab_size` mean nothing."""

    hidden: torch.Tensor
    """(batch, length, d_model), after the final norm."""

    residuals: tuple[torch.Tensor, ...] | None
    """The residual stream after every block, each (batch, length, d_model); None unless asked for."""


class HyenaDNA(nn.Module):
    """A causal language model over DNA.

    New models have random weights (`hyena_dna.model.init`) and are in training mode, as every `nn.Module`.

    Example:
        >>> model = HyenaDNA(HyenaConfig(d_model=128, n_layer=2, max_length=1026)).eval()
        >>> model(torch.randint(7, 11, (1, 1000))).logits.shape
        torch.Size([1, 1000, 16])

    Attributes:
        config: the architecture.
        tokenizer: bases to token ids and back.
        backbone: embeddings, blocks, final norm.
        lm_head: (padded vocab, d_model) matrix without bias, the embedding matrix itself where `tie_embeddings`.
        embedding: layers, pooling and strands of its embeddings where nobody says otherwise; None where its files do
            not say.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: EmbeddingDefaults | None = None
        self.tokenizer = Tokenizer()
        self.backbone = Backbone(config)
        self.lm_head = nn.Linear(config.d_model, config.padded_vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.backbone.embeddings.word_embeddings.weight
        init_weights(self, config)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
        output_residuals: bool = False,
    ) -> HyenaOutput:
        """Predict the next token at every position.

        Args:
            input_ids: (batch, length), token ids of any integer dtype; or
            inputs_embeds: (batch, length, d_model), in their place.
            lengths: (batch,), number of real tokens of every row where rows are padded on the right. What stands in
                the padding then never matters, and results do not depend on the other rows beyond FFT rounding.
                Outputs at padded positions have no meaning.
            output_residuals: also return the residual stream after every block.

        Raises:
            InputError: neither or both inputs are given, or the input is empty or longer than `config.max_length`.
        """
        hidden, residuals = self._run(input_ids, inputs_embeds, lengths, output_residuals)
        return HyenaOutput(self.lm_head(hidden), hidden, residuals)

    def hidden(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The final hidden states (batch, length, d_model) alone; arguments and errors as `forward`."""
        return self._run(input_ids, inputs_embeds, lengths, False).hidden

    def set_recompute(self, enabled: bool) -> None:
        """Trade time for memory in training: keep one tensor per block, compute the rest again in the backward pass.

        Gradients and parameter names stay the same.
        """
        self.backbone.recompute = enabled

    def set_long_conv(self, impl: Implementation = "auto", precision: Precision | None = None) -> None:
        """Choose how every mixer convolves; see `HyenaOperator` and `hyena_dna.ops.long_conv.long_conv`."""
        for module in self.modules():
            if isinstance(module, HyenaOperator):
                module.impl, module.precision = impl, precision

    def _run(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        lengths: torch.Tensor | None,
        output_residuals: bool,
    ) -> BackboneOutput:
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("a model takes either input_ids or inputs_embeds")
        ours = inputs_embeds is None
        if inputs_embeds is None:
            assert input_ids is not None
            if input_ids.dim() != 2:
                raise InputError(f"input_ids are (batch, length), not {tuple(input_ids.shape)}")
            inputs_embeds = self.backbone.embeddings(input_ids)
        output: BackboneOutput = self.backbone(
            inputs_embeds, lengths=lengths, output_residuals=output_residuals, overwrite=ours
        )
        return output
