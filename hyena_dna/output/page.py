"""Self-contained HTML pages of one look: templates extend `page.html.j2`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

__all__ = ["render_page"]


def render_page(template: str, **values: Any) -> str:
    """Fill in a template of this folder.

    Args:
        template: its file name.
        values: what it shows; text is escaped, `Markup` is not, and a missing value is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**values)
