"""How the verbs print: the console, lines, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from prunesweep.orchestrator.text import for_terminal

PIPE_WIDTH = 120
"""A pipe has no width of its own; rich would take 80."""

on_terminal = sys.stdout is not None and sys.stdout.isatty()


class CleanConsole(Console):
    """What is printed steers no terminal, whoever has written it; colours are rich's own, and no texts."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            is_clean = segment.control or segment.text.isprintable()  # as nearly all are, of which there are thousands
            yield segment if is_clean else Segment(for_terminal(segment.text), segment.style)


console = CleanConsole(highlight=False, emoji=False, width=None if on_terminal else PIPE_WIDTH)


def say(text: str) -> None:
    """Print a line with rich's markup, never broken: a terminal wraps by itself, and a pipe is read by programs."""
    console.print(text, soft_wrap=True)


def show(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print plain text as it is, but for what would steer a terminal."""
    print(for_terminal(text), end=end, file=sys.stderr if error else None, flush=True)


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, default=str)


def show_rendered(rendered: RenderableType) -> None:
    """Print a rich table on the console; a text that a program reads goes out as it is."""
    if isinstance(rendered, str):
        print(rendered)
    else:
        console.print(rendered)
