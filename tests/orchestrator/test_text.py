"""Figures as words; texts of others in every output."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.markup import escape
from rich.text import Text

from prunesweep.orchestrator.cli.printing import CleanConsole
from prunesweep.orchestrator.figures import drawing
from prunesweep.orchestrator.figures.comparisons import Frames
from prunesweep.orchestrator.figures.kinds import make_chart
from prunesweep.orchestrator.figures.page import Page
from prunesweep.orchestrator.results.query import Query
from prunesweep.orchestrator.tables.rendering import render
from prunesweep.orchestrator.tables.text_table import Columns, Emphasis, Entry, Line, TextTable
from prunesweep.orchestrator.text import (
    counted,
    duration,
    for_csv,
    for_html,
    for_markdown,
    for_terminal,
    grouped,
    joined,
    size,
    visible,
)
from tests.orchestrator.frames import imp


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (89 * 60, "89 min"),
        (200 * 60, "3 h 20 min"),
        (52 * 3600, "2 d 4 h"),
    ],
)
def test_a_duration_has_the_two_units_that_matter(seconds: float | None, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (3.4e6, "3.4 MB"), (1.2e9, "1.2 GB"), (5e12, "5 TB")],
)
def test_sizes_are_in_powers_of_ten(count: float, text: str):
    assert size(count) == text


def test_counts_and_lists_of_words():
    assert [counted(count, "trial") for count in (0, 1, 1234)] == ["0 trials", "1 trial", "1,234 trials"]
    assert grouped(["diverged", "worker died", "diverged"]) == "2 diverged, 1 worker died"
    assert [joined("abc"[:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]


# --- texts that may be anybody's

NASTY = [
    *(
        "\x1b[31mred\x1b]0;title\x07",
        "a\nb",
        "\\input{/etc/passwd}",
        "x\n\\input{secret}",
        "=1+cmd|' /C calc'!A0",
        "@SUM(A1)",
    ),
    *(
        "+1+1",
        "-1+1",
        "\t=1",
        "<script>alert(1)</script>",
        "![a](http://evil/x.png)",
        "[a](javascript:x)",
        "a|b",
        "`c`",
    ),
    *("\u202egnp.exe", "a\u2066b", "\x9b31m", r"$\x{$", "$x$", "**b**", "\u2028", "&lt;", "{best}", "[bold]x[/]", "\r"),
    *("<img src=x onerror=alert(1)>", "^^M\\input{x}", "a\x00b", "%\\input{x}", "[/]", "\\"),
]

TEXTS = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=12), st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
)

UNWANTED = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def unwanted(text: str) -> str:
    """The characters that steer a terminal, or the reading direction; lines and tabs are none."""
    return "".join(c for c in text if unicodedata.category(c) in UNWANTED and c not in "\n\t\u200c\u200d")


def table_of(texts: list[str]) -> TextTable:
    label, head, entry, note = texts
    records = ({head or "x": entry, "label": label, "value": -0.5},)
    line = Line((label,), (Entry(entry), Entry("-1.5", Emphasis.BEST)))
    return TextTable(
        note,
        (head,),
        ((head, "a"), (head, label)),
        (line, line),
        Columns.TEXTS,
        (note,),
        notes=(note,),
        records=records,
    )


@given(st.lists(TEXTS, min_size=4, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_renderer_lets_a_text_of_others_out_of_its_cell(texts: list[str]):
    table, plain = table_of(texts), table_of(["a", "b", "c", "d"])
    outputs = {name: str(render(table, name)) for name in ("csv", "markdown", "latex", "json")}
    sink = io.StringIO()
    CleanConsole(file=sink, width=200).print(render(table))
    outputs["terminal"] = sink.getvalue()
    assert not {name: unwanted(text) for name, text in outputs.items() if unwanted(text)}
    for name in ("markdown", "latex"):
        assert outputs[name].count("\n") == str(render(plain, name)).count("\n"), "no line more"
    for line in outputs["latex"].splitlines():
        assert line.startswith("%") or "\\input" not in line
    assert "<" not in outputs["markdown"]
    assert not re.search(r"(?<!\\)\]\(|(?<!\\)`", outputs["markdown"].replace("\\\\", ""))
    for row in csv.reader(io.StringIO(outputs["csv"])):
        assert not [cell for cell in row if re.match(r"[=+\-@\t\r].", cell) and not is_number(cell)]


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(st.one_of(TEXTS, st.text(max_size=5)))
@settings(max_examples=200, deadline=None)
def test_what_is_printed_steers_no_terminal(text: str):
    sink = io.StringIO()
    console = CleanConsole(file=sink, width=80)
    console.print(text, markup=False)
    console.print(Text(text))
    console.print(escape(text), soft_wrap=True)
    assert not unwanted(sink.getvalue())
    assert not unwanted(for_terminal(text))
    assert not unwanted(for_html(text))
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize("text", ["a b", "é ± † ß 日本", "x_y [a: 1]", "٣", "👩\u200d🔬"])
def test_an_honest_text_stays_as_it_is(text: str):
    assert visible(text) == for_terminal(text) == for_csv(text) == text


def test_numbers_are_no_formulas_and_escapes_can_be_read():
    assert [for_csv(text) for text in ("-0.5", "+3", "-", "-inf", "=2", "-x")] == [
        "-0.5",
        "+3",
        "-",
        "-inf",
        "'=2",
        "'-x",
    ]
    assert for_terminal("a\n\x1b[1m\t\u202e") == "a\n\\x1b[1m\t\\u202e"
    assert for_markdown("<b>*x*|`y`") == "&lt;b>\\*x\\*\\|\\`y\\`"


def test_figures_take_names_as_they_are(tmp_path: Path):
    name = r"$\x{$ $a$ \$ %"
    trials = pd.DataFrame([row for s in (0.5, 0.9) for row in imp([0.9, 0.91], name, 1, s)])
    frames = Frames(trials, lambda: trials, lambda: trials, trials)
    drawing.save(make_chart("sparsity", frames, Query(), None), tmp_path / "a.svg", Page(title=name))
    assert (tmp_path / "a.svg").stat().st_size > 1000
