"""Which reads count, and the reason why the others do not."""

from __future__ import annotations

import pysam

__all__ = ["DEFAULT_EXCLUDED_FLAGS", "skip_reason"]

DEFAULT_EXCLUDED_FLAGS = 0xF04
"""SAM flags of reads left out by default: unmapped, secondary, supplementary, duplicate, failed quality control."""

_REASONS = (
    (0x4, "unmapped"),
    (0x100, "secondary"),
    (0x800, "supplementary"),
    (0x400, "duplicate"),
    (0x200, "qc_fail"),
)


def skip_reason(read: pysam.AlignedSegment, exclude_flags: int, min_mapping_quality: int) -> str | None:
    """Why a read is left out, the first that applies, or None where it counts.

    Args:
        read: the read.
        exclude_flags: SAM flags any of which leaves it out.
        min_mapping_quality: a lower mapping quality leaves it out.

    Returns:
        "unmapped", "secondary", "supplementary", "duplicate", "qc_fail", "other_flag", "no_sequence",
        "low_mapping_quality" or None.
    """
    flag = read.flag & exclude_flags
    if flag:
        return next((reason for bit, reason in _REASONS if flag & bit), "other_flag")
    if read.query_length == 0:
        return "no_sequence"
    if read.mapping_quality < min_mapping_quality:
        return "low_mapping_quality"
    return None
