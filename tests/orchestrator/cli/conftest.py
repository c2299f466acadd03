"""Calls of the command in this process: a fork for each of hundreds would take minutes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from prunesweep.orchestrator.cli.main import main


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Ask = Callable[..., Answer]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    def asked(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["prunesweep", *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return asked
