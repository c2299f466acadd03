"""Published numbers: how they are read, and what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pytest

from prunesweep import load_published
from prunesweep.orchestrator.results.beside_published import beside_published
from prunesweep.orchestrator.tables.compare_published import differences_to_published
from prunesweep.orchestrator.tables.rendering import render
from prunesweep.workers.errors import UserError
from prunesweep.workers.methods import method_class
from tests.orchestrator.frames import SETTINGS, dense, imp, judged, trials

PAPER = {"dataset": "imagenet", "model": "resnet50", "pretrain_epochs": 90}
IMAGENET = pd.DataFrame(
    [
        *imp([0.735, 0.737], "FT", 2, 0.7, **PAPER),
        *imp([0.74], "ALLR", 5, 0.7, **PAPER),
        *imp([0.74], "ALLR", 7, 0.7, **PAPER),  # no such budget in the paper
        *trials([0.76], method="bimp", target_sparsity=0.7, **{**PAPER, "pretrain_epochs": 81}, retrain_epochs=9),
        *dense([0.77], **PAPER),
    ]
)


def text(frame: pd.DataFrame, across: Collection[str] = (), metric: str = "test_accuracy") -> str:
    return str(render(differences_to_published(frame, load_published(), metric, across), "markdown"))


def write(folder: Path, text: str) -> Path:
    (folder / "theirs.csv").write_text(text)
    return folder / "theirs.csv"


# --- what is published

NOT_HERE = {"gradual_random", "gradual_saliency", "gradual_ste"}
"""Methods of JaxPruner; its random pruning is gradual, and ours prunes once."""


def test_the_paper_s_tables_come_with_the_package() -> None:
    paper = load_published()
    assert len(paper[paper.metric == "test_accuracy"]) == 54 + 24
    (allr,) = paper[(paper.retrain_schedule == "ALLR") & (paper.target_sparsity == 0.9) & (paper.retrain_epochs == 10)][
        ["mean", "std"]
    ].to_numpy()
    assert allr.tolist() == pytest.approx([0.7199, 0.0007])
    reached = paper[(paper.method == "str") & (paper.metric == "reached_sparsity")]
    assert reached["mean"].tolist() == pytest.approx([0.7534, 0.8093, 0.9]), "sparsities are fractions already"
    speed = paper[(paper.method == "dnw") & (paper.metric == "train_images_per_second")]
    assert speed["mean"].tolist() == [530] * 3
    assert paper["source"].str.contains("ICLR 2023").all()


@pytest.mark.parametrize(
    ("name", "method", "allocation", "sparsity", "epochs", "told"),
    [
        ("rigl", "rigl", "erk", 0.9, 100, {"test_accuracy": 0.7307, "train_flops_ratio": 0.24}),
        ("rigl", "rigl", "erk", 0.9, 500, {"test_accuracy": 0.7642, "train_flops_ratio": 1.23}),
        ("rigl", "rigl", "first_dense", 0.8, 100, {"test_accuracy": 0.7460, "train_flops_ratio": 0.23}),
        ("acdc", "acdc", "global", 0.98, 100, {"test_accuracy": 0.6848}),
        ("acdc", "acdc", "uniform", 0.95, 200, {"test_accuracy": 0.7429}),
        ("jaxpruner", "set", "erk", 0.8, 300, {"test_accuracy": 0.7562}),
        ("jaxpruner", "gmp", "uniform", 0.8, 100, {"test_accuracy": 0.7553}),
        ("jaxpruner", "gradual_ste", "erk", 0.8, 90, {"test_accuracy": 0.7421}),
        ("str", "str", None, 0.9, 100, {"reached_sparsity": 0.9023, "nonzero_multiply_adds": 343e6}),
        ("rigl_cifar10", "static", "erk", 0.95, 250, {"test_accuracy": 0.89}),
        ("rigl_reproduction", "small_dense", None, 0.8, 250, {"test_accuracy": 0.91}),
        ("rigl_reproduction", "set", "uniform", 0.8, 250, {"test_accuracy": 0.927, "train_flops_ratio": 0.20}),
        ("rigl_reproduction", "rigl", "erk", 0.8, 500, {"test_accuracy": 0.933, "train_flops_ratio": 0.70}),
    ],
)
def test_other_papers_come_by_name(
    name: str, method: str, allocation: str | None, sparsity: float, epochs: int, told: dict[str, float]
) -> None:
    numbers = load_published(name)
    asked = (numbers.method == method) & (numbers.target_sparsity == sparsity) & (numbers.pretrain_epochs == epochs)
    asked &= numbers.allocation.isna() if allocation is None else numbers.allocation == allocation
    means = dict(zip(numbers[asked]["metric"], numbers[asked]["mean"], strict=True))
    assert {metric: means[metric] for metric in told} == pytest.approx(told)
    assert numbers["source"].nunique() == 1
    for other in {*numbers["method"]} - NOT_HERE:
        method_class(other)  # raises for what is no method here


def test_a_number_of_one_allocation_belongs_to_settings_with_it_and_stands_beside_our_flops() -> None:
    rigl = {"dataset": "imagenet", "model": "resnet50", "method": "rigl", "target_sparsity": 0.9}
    frame = pd.DataFrame(
        [
            row
            for allocation, ratio in (("erk", 0.2443), ("first_dense", 0.1302), ("uniform", 0.11))
            for row in trials([ratio], "train_flops_ratio", **rigl, pretrain_epochs=100, allocation=allocation)
        ]
    )
    table = differences_to_published(frame, load_published("rigl"), "train_flops_ratio")
    lines = [[*line.labels, *(entry.text for entry in line.entries)] for line in table.lines]
    assert [line[-4:] for line in lines] == [
        ["erk", "0.24x (1)", "0.24x", "+0.00x"],
        ["first_dense", "0.13x (1)", "0.13x", "+0.00x"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,test_accuracy_mean\nimp,70\n", "theirs.csv lacks the column target_sparsity; it has method, test_ac"),
        ("method,target_sparsity,accuracy\nimp,0.9,70\n", 'unknown column "accuracy": allowed are'),
        ("method,target_sparsity,test_acuracy_mean\nimp,0.9,70\n", 'did you mean "test_accuracy_mean"'),
        ("method,target_sparsity\nimp,0.9\n", "has no numbers: give a column such as test_accuracy_mean"),
        ("method,target_sparsity,test_accuracy\nimp,0.9,0.7\n", "test_accuracy is at most 0.7; accuracies are in perc"),
        ("method,target_sparsity,test_accuracy\nimp,90%,70\n", "target_sparsity has a value that is no number"),
        ("method,target_sparsity,test_accuracy_std\nimp,0.9,0.1\n", "has no numbers"),
        ("", "cannot read .*theirs.csv as CSV: No columns"),
    ],
)
def test_a_file_that_is_no_table_of_numbers(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        load_published(write(tmp_path, text))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"no published numbers at none\.csv: give a CSV file, or one of paper, rigl, "):
        load_published("none.csv")


# --- what corresponds


def test_cells_are_laid_beside_the_numbers_of_the_same_settings() -> None:
    laid = beside_published(IMAGENET, load_published(), "test_accuracy")
    assert [(c.cell.settings["method"], c.reference.mean, c.reference.std) for c in laid.comparisons] == [
        ("imp", pytest.approx(0.7351), pytest.approx(0.0004)),
        ("imp", pytest.approx(0.7437), pytest.approx(0.0005)),
        ("bimp", pytest.approx(0.7562), pytest.approx(0.0002)),
    ]
    assert laid.comparisons[0].difference.mean == pytest.approx(0.736 - 0.7351)
    assert [cell.settings["method"] for cell in laid.alone] == ["imp", "dense"]
    assert len(laid.missed) == 78 - 3


def test_what_a_file_does_not_state_is_not_looked_at(tmp_path: Path) -> None:
    file = write(tmp_path, "method,target_sparsity,retrain_schedule,test_accuracy\nimp,0.9,,70\nimp,0.9,LLR,75\n")
    frame = pd.DataFrame([*imp([0.8], "FT"), *imp([0.8], "LLR")])
    compared = beside_published(frame, load_published(file), "test_accuracy").comparisons
    assert [(c.cell.settings["retrain_schedule"], c.reference.mean) for c in compared] == [
        ("FT", 0.70),
        ("LLR", 0.70),
        ("LLR", 0.75),
    ]
    assert all(c.reference.std is None for c in compared)


SMALL = pd.DataFrame([*imp([0.9, 0.8], "FT", 1, 0.7), *imp([0.9, 0.9], "FT", 2, 0.7)])


def test_settings_may_differ_where_that_is_said() -> None:
    across = ["dataset", "model", "pretrain_epochs", "retrain_epochs"]
    compared = beside_published(SMALL, load_published(), "test_accuracy", across).comparisons
    assert [c.reference.mean for c in compared] == pytest.approx([0.7351, 0.7398, 0.7444] * 2)
    with pytest.raises(UserError, match=r'--across datset: unknown column "datset".* did you mean "dataset"'):
        beside_published(SMALL, load_published(), "test_accuracy", ["datset"])


def test_a_file_says_which_value_of_ours_corresponds_to_its_own(tmp_path: Path) -> None:
    text = "method,our_method,target_sparsity,retrain_epochs,our_retrain_epochs,test_accuracy\n"
    file = write(tmp_path, text + "magnitude,imp,0.7,2,1,73\nmagnitude,imp,0.7,10,2,74\nimp,,0.7,1,,75\n")
    compared = beside_published(SMALL, load_published(file), "test_accuracy").comparisons
    assert [(c.cell.settings["retrain_epochs"], c.reference.mean) for c in compared] == [
        (1, pytest.approx(0.73)),
        (1, 0.75),
        (2, pytest.approx(0.74)),
    ]
    table = differences_to_published(SMALL, load_published(file), "test_accuracy")
    assert table.heads == ("target sparsity", "method", "retrain schedule", "retrain epochs", *table.heads[4:])
    assert table.heads[4:] == ("published method", "published retrain epochs")
    assert "published_our_method" not in table.records[0]
    wrong = write(tmp_path, "method,target_sparsity,our_epochs,test_accuracy\nimp,0.7,1,75\n")
    with pytest.raises(UserError, match='unknown column "our_epochs"'):
        load_published(wrong)


# --- what it looks like


def test_a_table_of_differences_to_the_paper() -> None:
    assert text(IMAGENET).splitlines() == [
        "imagenet, resnet50: test accuracy in percent, beside published numbers",
        "",
        "| target sparsity | method | retrain schedule | ours | published | points |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        "| 70% | imp | FT | 73.60 ± 0.14 (2) | 73.51 ± 0.04 | +0.09 |",
        "|  |  | ALLR | 74.00 (1/2) | 74.37 ± 0.05 | -0.37 |",
        "|  | bimp |  | 76.00 (1/2) | 75.62 ± 0.02 | +0.38 |",
        "",
        'published: Zimmer, Spiegel, Pokutta, "How I Learned to Stop Worrying and Love Retraining", ICLR 2023',
        "",
        "2 of our 5 cells have no published counterpart: imp 1, dense 1",
        "",
        "75 of 78 published numbers have no counterpart here",
        "",
        "(n/N): n of the N seeds asked for",
    ]


def test_another_metric_and_another_dataset() -> None:
    frame = pd.DataFrame(trials([1000.0], "train_images_per_second", method="gmp", target_sparsity=0.9))
    shown = text(frame, ["dataset", "model"], "train_images_per_second")
    assert "| 90% | gmp | 1,000 (1) | 1,425 | -425 |" in shown


def test_a_sparsity_that_was_missed_is_pointed_out() -> None:
    frame = pd.DataFrame(judged([0.5], [0.71], 0.71, method="str", target_sparsity=0.7))
    shown = text(frame, ["dataset", "model"])
    assert "str at 70%: the published networks reached 75.3% sparsity, ours 71.0%" in shown.splitlines()


def test_numbers_for_programs_are_in_the_metric_s_own_unit() -> None:
    made = differences_to_published(IMAGENET, load_published(), "test_accuracy")
    first = json.loads(str(render(made, "json")))[0]
    assert (first["mean"], first["published_mean"]) == (pytest.approx(0.736), pytest.approx(0.7351))
    assert first["published_std"] == pytest.approx(0.0004)
    assert first["difference"] == pytest.approx(0.0009)
    assert (first["n"], first["seeds"], first["published_retrain_epochs"]) == (2, 2, 2)


def test_without_any_counterpart_it_says_what_differs() -> None:
    with pytest.raises(UserError) as error:
        text(SMALL)
    assert str(error.value) == (
        "none of our 2 cells has a published counterpart: dataset is digits here, imagenet there; "
        "model is resnet8 here, resnet50 there; add --across dataset --across model"
    )
    with pytest.raises(UserError, match='unknown metric "train_seconds": allowed are reached_sparsity'):
        text(
            pd.DataFrame([{**SETTINGS, "trial": "a", "seed": 0, "total_epochs": 20, "train_seconds": 1.0}]),
            metric="train_seconds",
        )


@pytest.mark.parametrize(
    ("separator", "decimal", "encoding"),
    [(";", ",", "utf-8-sig"), ("\t", ",", "utf-16"), (";", ".", "utf-8"), ("\t", ".", "utf-8")],
)
def test_a_file_as_spreadsheets_write_it(separator: str, decimal: str, encoding: str, tmp_path: Path) -> None:
    lines = [
        ("method", "target_sparsity", "test_accuracy_mean"),
        ("imp", f"0{decimal}9", f"93{decimal}5"),
        ("", "", ""),
    ]
    file = tmp_path / "theirs.csv"
    file.write_bytes("\r\n".join(separator.join(line) for line in lines).encode(encoding))
    (row,) = load_published(file).to_dict("records")
    assert (row["method"], row["target_sparsity"], row["mean"]) == ("imp", 0.9, 0.935)
    file.write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match="it is a workbook; save it as CSV"):
        load_published(file)
