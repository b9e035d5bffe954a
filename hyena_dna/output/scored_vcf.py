"""Scored records as VCF lines: every column as it was, INFO with the scores at its end."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from hyena_dna.output.score_fields import INFO_FIELDS, AlleleScore, ScoredRecord

__all__ = ["strip_fields", "vcf_lines"]

_ONE = b"HYENA_LLR=%.6g;HYENA_LLR_FWD=%.6g;HYENA_LLR_REV=%.6g"
_NAMES = tuple(name.encode() + b"=" for name in INFO_FIELDS)


def vcf_lines(records: Iterable[ScoredRecord], drop: Collection[bytes] = ()) -> bytes:
    """The lines of records, each with its line end.

    Args:
        records: what to write.
        drop: INFO keys to take out first, because they are written anew.
    """
    lines: list[bytes] = []
    for record in records:
        fields = record.fields
        info = strip_fields(fields[7], drop) if drop else fields[7]
        added = _info(record.scores)
        parts = [*fields[:7], added if info in (b".", b"") else info + b";" + added, *fields[8:]]
        lines.append(b"\t".join(parts))
    lines.append(b"")
    return b"\n".join(lines)


def strip_fields(info: bytes, keys: Collection[bytes]) -> bytes:
    """An INFO column without some keys."""
    kept = [item for item in info.split(b";") if item.partition(b"=")[0] not in keys]
    return b";".join(kept) or b"."


def _info(scores: Sequence[AlleleScore]) -> bytes:
    if not any(score.scored for score in scores):
        return _NAMES[5] + ",".join([score.status for score in scores]).encode()
    if len(scores) == 1:
        status, llr, llr_fwd, llr_rev, llr_norm, dist, _ = scores[0]
        return b"%b;HYENA_LLR_NORM=%b;HYENA_DIST=%b;HYENA_STATUS=%b" % (
            _ONE % (llr, llr_fwd, llr_rev), _number(llr_norm), _number(dist), status.encode(),
        )  # fmt: skip
    columns = [b",".join([_number(score[index]) for score in scores]) for index in range(1, 6)]
    columns.append(",".join([score.status for score in scores]).encode())
    return b";".join([name + column for name, column in zip(_NAMES, columns, strict=True)])


def _number(value: float | str) -> bytes:
    assert isinstance(value, float)
    return b"." if math.isnan(value) else b"%.6g" % value
