"""Scored records as VCF lines: every column as it was, INFO with the scores at its end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from hyena_dna.output.score_fields import FIELD_PREFIX, INFO_FIELDS, AlleleScore, ScoredRecord, ScoreField

__all__ = ["vcf_lines"]

_ONE = b"HYENA_LLR=%.6g;HYENA_LLR_FWD=%.6g;HYENA_LLR_REV=%.6g"
_NAMES = tuple(name.encode() + b"=" for name in INFO_FIELDS)


_PREFIX = FIELD_PREFIX.encode()


def vcf_lines(records: Iterable[ScoredRecord], extras: Sequence[ScoreField] = (), *, replace: bool = False) -> bytes:
    """The lines of records, each with its line end.

    Args:
        records: what to write.
        extras: the fields of `AlleleScore.extra`.
        replace: take out the fields of an earlier run first.
    """
    lines: list[bytes] = []
    names = [field.info.encode() + b"=" for field in extras]
    for record in records:
        fields = record.fields
        info = _without_scores(fields[7]) if replace else fields[7]
        added = _info(record.scores)
        if names and any(score.scored for score in record.scores):
            added = b";".join([added, *_extra(record.scores, names)])
        parts = [*fields[:7], added if info in (b".", b"") else info + b";" + added, *fields[8:]]
        lines.append(b"\t".join(parts))
    lines.append(b"")
    return b"\n".join(lines)


def _without_scores(info: bytes) -> bytes:
    return b";".join([item for item in info.split(b";") if not item.startswith(_PREFIX)]) or b"."


def _extra(scores: Sequence[AlleleScore], names: Sequence[bytes]) -> list[bytes]:
    columns = zip(*(score.extra or (math.nan,) * len(names) for score in scores), strict=True)
    return [name + b",".join(map(_number, column)) for name, column in zip(names, columns, strict=True)]


def _info(scores: Sequence[AlleleScore]) -> bytes:
    if not any(score.scored for score in scores):
        return _NAMES[5] + ",".join([score.status for score in scores]).encode()
    if len(scores) == 1:
        status, llr, llr_fwd, llr_rev, llr_norm, dist, *_ = scores[0]
        return b"%b;HYENA_LLR_NORM=%b;HYENA_DIST=%b;HYENA_STATUS=%b" % (
            _ONE % (llr, llr_fwd, llr_rev), _number(llr_norm), _number(dist), status.encode(),
        )  # fmt: skip
    columns = [b",".join(map(_number, column)) for column in list(zip(*scores, strict=True))[1:6]]
    columns.append(",".join([score.status for score in scores]).encode())
    return b";".join([name + column for name, column in zip(_NAMES, columns, strict=True)])


def _number(value: float) -> bytes:
    return b"." if math.isnan(value) else b"%.6g" % value
