"""How the verbs print: the console, lines, JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console, RenderableType

PIPE_WIDTH = 120
"""A pipe has no width of its own; rich would take 80."""

on_terminal = sys.stdout is not None and sys.stdout.isatty()
console = Console(highlight=False, emoji=False, width=None if on_terminal else PIPE_WIDTH)


def say(text: str) -> None:
    """Print a line with rich's markup, never broken: a terminal wraps by itself, and a pipe is read by programs."""
    console.print(text, soft_wrap=True)


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, default=str)


def show_rendered(rendered: RenderableType) -> None:
    """Print a rich table on the console; a text that a program reads goes out as it is."""
    if isinstance(rendered, str):
        print(rendered)
    else:
        console.print(rendered)
