"""What is said of a command line that typer refuses: in one line, with the value and what is allowed instead."""

from __future__ import annotations

from typing import Any

import typer
from pydantic import ValidationError

WANTED = {
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "a finite number",
}
"""By pydantic's types of errors, with what it says beside them."""


def explained(error: typer.TyperException) -> str:
    """Nothing where typer has shown the help instead."""
    cause, message = error.__cause__, error.format_message().strip()
    if isinstance(error, typer.BadParameter) and isinstance(cause, ValidationError) and error.param is not None:
        return _refused(error.param.opts[0], cause.errors()[0])
    context = getattr(error, "ctx", None)
    more = f" (see `{context.command_path} -h`)" if message and context is not None else ""
    return message + more


def _refused(name: str, problem: Any) -> str:
    wanted = WANTED.get(problem["type"], problem["msg"]).format(**problem.get("ctx", {}))
    return f'{name}: "{problem["input"]}" is not allowed: {wanted}'
