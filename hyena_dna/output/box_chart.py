"""Box plots as inline SVG, in the style of the other charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

__all__ = ["box_chart"]

_WIDTH, _LEFT, _RIGHT = 760, 190, 70
_ROW, _BOTTOM = 30, 44


def box_chart(groups: Mapping[str, Sequence[float]], *, label: str) -> str:
    """Draw one box for each group: median, quartiles, and whiskers from the 5th to the 95th percentile.

    Args:
        groups: values of each group, none of them empty; drawn from top to bottom.
        label: name and unit of the axis.

    Returns:
        An `<svg>` element.
    """
    quantiles = {name: np.percentile(values, [5, 25, 50, 75, 95]).tolist() for name, values in groups.items()}
    low: float = min(found[0] for found in quantiles.values())
    high: float = max(found[4] for found in quantiles.values())
    spare = (high - low) * 0.04 or 1.0
    low, high = low - spare, high + spare
    height = len(groups) * _ROW + _BOTTOM

    def at(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    bottom = height - _BOTTOM + 4
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(f"{label} by group")}">']
    for tick in np.linspace(low + spare, high - spare, 5):
        x = at(float(tick))
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:.3g}</text>')
    for row, (name, found) in enumerate(quantiles.items()):
        middle = row * _ROW + _ROW / 2 + 4
        least, lower, median, upper, most = (at(value) for value in found)
        parts += [
            f'<text class="tick" x="{_LEFT - 10}" y="{middle + 4}" text-anchor="end">{escape(name[:28])}</text>',
            f'<line class="whisker" x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}"/>',
            f'<rect class="box" x="{lower:.1f}" width="{upper - lower:.1f}" y="{middle - 9}" height="18">'
            f"<title>{escape(name)}: median {found[2]:.4g}, quartiles {found[1]:.4g} and {found[3]:.4g}</title></rect>",
            f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="{middle - 9}" y2="{middle + 9}"/>',
            f'<text class="tick" x="{_WIDTH - _RIGHT + 8}" y="{middle + 4}">n = {len(groups[name]):,}</text>',
        ]
    centre = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="label" x="{centre}" y="{height - 6}" text-anchor="middle">{escape(label)}</text></svg>')
    return "".join(parts)
