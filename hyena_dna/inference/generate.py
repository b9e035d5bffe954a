"""Sampling DNA from a causal model: after each base the next is drawn from what the model expects."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dna.errors import InputError
from hyena_dna.inference.generate_decoder import BLOCK, Decoder
from hyena_dna.inference.likelihood import high_precision
from hyena_dna.inference.runtime import run_batches
from hyena_dna.model.model import HyenaDNA
from hyena_dna.tokenizer import BASE_IDS, A

__all__ = ["Generated", "Method", "Sampling", "generate", "generate_batches", "rows_per_batch"]

Method = Literal["auto", "recurrent", "full"]

# What the buffers of one batch may take. More rows than this share the cost of a step no better.
_BATCH_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}
_MOST_ROWS = 256


@dataclass(frozen=True)
class Sampling:
    """How the next base is drawn.

    Logits of the allowed bases are divided by the temperature; of their softmax the `top_k` most likely are kept, and
    of these, made to sum to 1, the fewest whose probabilities reach `top_p`; one is drawn from what is left.

    Attributes:
        temperature: above 0; below 1 prefers what is likely.
        top_k: keep this many of the most likely bases; 1 always takes the most likely.
        top_p: keep the most likely bases that together have this probability, above 0 and at most 1.
        allow_n: N may be drawn too. Special tokens never are.

    Raises:
        InputError: a value is out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    allow_n: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"the temperature is above 0, not {self.temperature:g}", remedy="top-k 1 draws greedily")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top-k keeps at least 1 base, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top-p is above 0 and at most 1, not {self.top_p:g}")

    def draw(self, logits: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Draw one token per row, by inverting the distribution function.

        Args:
            logits: (batch, vocab).
            noise: (batch,) uniform on [0, 1).

        Returns:
            (batch,) int64 ids.
        """
        count = len(BASE_IDS) + self.allow_n
        shares = (logits[:, A : A + count] / self.temperature).softmax(-1)
        if self.top_k is None and self.top_p is None:
            return (shares.cumsum(-1)[:, :-1] <= noise[:, None]).sum(-1) + A
        shares, order = torch.sort(shares, dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            shares[:, self.top_k :] = 0
        if self.top_p is not None:
            before = shares.cumsum(-1) - shares
            shares = shares.where(before < self.top_p * shares.sum(-1, keepdim=True), 0)
        reached = shares.cumsum(-1)
        drawn = (reached[:, :-1] <= noise[:, None] * reached[:, -1:]).sum(-1)
        # Rounding may carry the noise to the very end of the distribution, past what was kept.
        drawn = drawn.minimum((shares > 0).sum(-1) - 1)
        return order.gather(-1, drawn[:, None])[:, 0] + A


@dataclass(frozen=True)
class Generated:
    """One sampled sequence.

    Attributes:
        prompt: number of the prompt that it continues, from 0.
        sample: number of the sample of that prompt, from 0.
        sequence: the new bases, without the prompt.
        log_likelihood: of the new bases under the model itself, whatever the sampling: sum of log P(base | all
            before it) over the 12 tokens, in nats; without a prompt the first base is not scored.
    """

    prompt: int
    sample: int
    sequence: str
    log_likelihood: float


def generate(
    model: HyenaDNA,
    prompts: Sequence[str | bytes] | None,
    n_bases: int,
    *,
    sampling: Sampling | None = None,
    samples: int = 1,
    seed: int = 0,
    method: Method = "auto",
    batch_size: int | None = None,
) -> list[Generated]:
    """Continue prompts, or begin from nothing.

    Every sample has its own stream of random numbers, made of the seed, the number of its prompt and its own number:
    what is drawn depends neither on the batch nor on how many samples or bases are asked for, up to rounding.

    Example:
        >>> generate(model, ["ACGTACGT"], 100, sampling=Sampling(temperature=0.8), samples=4, seed=1)[0].sequence

    Args:
        model: in evaluation mode.
        prompts: DNA of any lengths; None for one empty prompt: the first base is then drawn evenly from A, C, G, T,
            because a model says nothing of a base without a base before it.
        n_bases: new bases of each sample.
        sampling: how bases are drawn.
        samples: of each prompt.
        seed: of all random choices.
        method: `recurrent` reads one base at a time (`Decoder`), in O(length log^2 length); `full` runs the whole
            model again for every base, the definition; `auto` is recurrent wherever there are long convolutions.
        batch_size: sequences side by side; None for as many as fit a memory budget.

    Returns:
        The samples of the first prompt, then of the next.

    Raises:
        InputError: a prompt is empty or not DNA, a number is out of range, or prompt and new bases are together longer
            than the model.
    """
    found = {(one.prompt, one.sample): one for one in generate_batches(
        model, prompts, n_bases, sampling=sampling, samples=samples, seed=seed, method=method, batch_size=batch_size
    )}  # fmt: skip
    return [found[key] for key in sorted(found)]


def generate_batches(
    model: HyenaDNA,
    prompts: Sequence[str | bytes] | None,
    n_bases: int,
    *,
    sampling: Sampling | None = None,
    samples: int = 1,
    seed: int = 0,
    method: Method = "auto",
    batch_size: int | None = None,
) -> Iterator[Generated]:
    """As `generate`, in the order in which batches end: prompts of one length stand side by side."""
    if n_bases < 1 or samples < 1:
        raise InputError(f"at least one base and one sample are made, not {n_bases} and {samples}")
    rows = _encode(model, prompts, n_bases)
    sampling = sampling or Sampling()
    if method == "auto":
        method = "recurrent" if model.config.mixer == "hyena" else "full"
    lengths = sorted({len(row) for row in rows})
    for length in lengths:
        keys = [(i, k) for i, row in enumerate(rows) if len(row) == length for k in range(samples)]
        yield from _same_length(model, rows, keys, n_bases, sampling, seed, method, batch_size)


def _encode(model: HyenaDNA, prompts: Sequence[str | bytes] | None, n_bases: int) -> list[NDArray[np.uint8]]:
    rows = [np.zeros(0, np.uint8)] if prompts is None else [model.tokenizer.encode(prompt) for prompt in prompts]
    for number, row in enumerate(rows, start=1):
        if prompts is not None and not len(row):
            raise InputError(f"prompt {number} is empty")
        if len(row) + n_bases > model.config.max_length:
            raise InputError(
                f"prompt {number} of {len(row):,} bp and {n_bases:,} new bases are together longer than the model's "
                f"{model.config.max_length:,}",
                remedy="ask for fewer bases or take a model with a longer context",
            )
    return rows


def rows_per_batch(model: HyenaDNA, n_bases: int, batch_size: int | None) -> int:
    """Sequences side by side: what the user says, or what a budget of memory allows."""
    if batch_size is not None:
        return batch_size
    config = model.config
    weight = model.lm_head.weight
    # The history, and what its transforms take beside it.
    row = 3 * config.n_layer * max(1, config.n_filters) * config.d_model * n_bases * weight.element_size()
    budget = _BATCH_BYTES.get(weight.device.type, _BATCH_BYTES["cuda"])
    return max(1, min(_MOST_ROWS, budget // row))


def _same_length(
    model: HyenaDNA,
    rows: list[NDArray[np.uint8]],
    keys: list[tuple[int, int]],
    n_bases: int,
    sampling: Sampling,
    seed: int,
    method: Method,
    batch_size: int | None,
) -> Iterator[Generated]:
    device = model.lm_head.weight.device
    decoders: dict[int, Decoder] = {}

    def one_batch(batch: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        chosen = [keys[index] for index in batch]
        prompts = torch.from_numpy(np.stack([rows[prompt] for prompt, _ in chosen])).to(device)
        streams = [np.random.default_rng((seed, *key)).random(n_bases, np.float32) for key in chosen]
        noise = torch.from_numpy(np.stack(streams, axis=1)).to(device)
        with high_precision(device):
            if method == "full":
                ids, scores = _draw_full(model, prompts, noise, sampling)
            else:
                # Of the last batch only, because its rows may be fewer.
                if len(batch) not in decoders:
                    decoders.clear()
                    decoders[len(batch)] = Decoder(model, len(batch), n_bases - 1)
                ids, scores = _draw_recurrent(model, decoders[len(batch)], prompts, noise, sampling)
            return ids.T.cpu().numpy().astype(np.uint8), scores.sum(0).cpu().numpy()

    size = rows_per_batch(model, n_bases, batch_size)
    batches = np.split(np.arange(len(keys)), range(size, len(keys), size))
    for batch, (ids, scores) in run_batches(one_batch, batches):
        for index, row, score in zip(batch, ids, scores, strict=True):
            prompt, sample = keys[index]
            yield Generated(prompt, sample, model.tokenizer.decode(row), float(score))


def _log_probs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """(..., vocab), (...) -> (...) float64, in nats."""
    return logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0].double()


def _first(noise: torch.Tensor) -> torch.Tensor:
    """The first base of an empty sequence, drawn evenly."""
    return (noise * len(BASE_IDS)).long().clamp_(max=len(BASE_IDS) - 1) + A


def _draw_full(
    model: HyenaDNA, prompts: torch.Tensor, noise: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition: the whole model again for every base. (n_bases, batch) ids and log-probabilities."""
    rows = prompts.long()
    chosen, scores = [], []
    for number in noise:
        if rows.shape[1]:
            hidden = model.hidden(rows)[:, -1]
            logits = hidden @ model.lm_head.weight[: model.config.vocab_size].T
            ids = sampling.draw(logits, number)
            scores.append(_log_probs(logits, ids))
        else:
            ids = _first(number)
            scores.append(torch.zeros_like(number, dtype=torch.float64))
        chosen.append(ids)
        rows = torch.cat([rows, ids[:, None]], dim=1)
    return torch.stack(chosen), torch.stack(scores)


def _draw_recurrent(
    model: HyenaDNA, decoder: Decoder, prompts: torch.Tensor, noise: torch.Tensor, sampling: Sampling
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, one position at a time."""
    used = torch.zeros(BLOCK, noise.shape[1], device=noise.device)

    def choose(logits: torch.Tensor, step: int) -> torch.Tensor:
        return sampling.draw(logits, used[step])

    def before_block(start: int, count: int) -> None:
        used[:count] = noise[1 + start : 1 + start + count]

    if prompts.shape[1]:
        logits = decoder.prefill(prompts)
        first = sampling.draw(logits, noise[0])
        score = _log_probs(logits, first)
    else:
        decoder.clear()
        first = _first(noise[0])
        score = torch.zeros_like(noise[0], dtype=torch.float64)
    logits, ids = decoder.run(first, choose, before_block=before_block)
    return torch.cat([first[None], ids]), torch.cat([score[None], _log_probs(logits, ids)])
