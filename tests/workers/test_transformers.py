"""Models of transformers from a folder: their logits are its own, their keys are of what config.json says."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prunesweep.workers import data, models
from prunesweep.workers.errors import UserError
from prunesweep.workers.examination import examine_stage
from prunesweep.workers.fingerprints import fingerprinted
from prunesweep.workers.host import Where
from prunesweep.workers.init.fitting import differences, load, outline, shapes_in, shapes_of
from prunesweep.workers.init.kept import put_weights
from prunesweep.workers.init.places import locate
from prunesweep.workers.init.reading import content_hash, read_weights
from prunesweep.workers.measure import layer_costs
from prunesweep.workers.methods.base import Method
from prunesweep.workers.methods.dst import DST
from prunesweep.workers.methods.gmp import GMP
from prunesweep.workers.methods.imp import IMP
from prunesweep.workers.models.folder_config import described
from prunesweep.workers.models.transformers_models import build
from prunesweep.workers.prunable import prunable
from prunesweep.workers.recording import record
from prunesweep.workers.spec import Choice, Init, Scope, TrialSpec
from prunesweep.workers.store import Store
from tests import contract
from tests.workers.test_tasks import trial

transformers = pytest.importorskip("transformers")
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import Whitespace  # noqa: E402

WIDTH, LAYERS, VOCABULARY, CONTEXT = 16, 2, 256, 8
IMAGES = (1, 8, 8)
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": VOCABULARY}
NAMED = {"num_hidden_layers": LAYERS, "hidden_size": WIDTH, "num_attention_heads": 2}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": 2, "n_positions": 32, **ENDS},
    "LlamaForCausalLM": {**NAMED, "intermediate_size": 32, "tie_word_embeddings": True, **ENDS},
    "OPTForCausalLM": {**NAMED, "ffn_dim": 32, "word_embed_proj_dim": WIDTH, **ENDS},
    "GPTNeoXForCausalLM": {**NAMED, "intermediate_size": 32, **ENDS},
    "ViTForImageClassification": {
        **NAMED,
        **{"intermediate_size": 32, "image_size": 8, "patch_size": 2, "num_channels": 1, "num_labels": 10},
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of each architecture, as save_pretrained writes it."""
    top = tmp_path_factory.mktemp("models")
    for name, settings in ARCHITECTURES.items():
        torch.manual_seed(3)
        cls = getattr(transformers, name)
        cls(cls.config_class(**settings)).save_pretrained(top / name)
    return top


def chosen(folder: Path) -> Choice:
    return models.choose("transformers", models.read("transformers", {"path": str(folder)}))


def shape_of(name: str) -> tuple[tuple[int, int, int], int]:
    return (IMAGES, 10) if "Image" in name else ((1, 1, CONTEXT), VOCABULARY)


def inputs_of(name: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if "Image" in name:
        return torch.rand((2, *IMAGES), generator=generator)
    return torch.randint(VOCABULARY, (2, CONTEXT), generator=generator)


def started(
    folder: Path, tensors: Mapping[str, Tensor], *, new_head: bool = False, classes: int | None = None
) -> nn.Module:
    """The network with weights of a file."""
    choice, (shape, usual) = chosen(folder), shape_of(folder.name)
    network = outline(lambda count: models.build(choice, shape, count), classes or usual)
    model = models.build(choice, shape, classes or usual)
    assert not differences(network, shapes_in(model, shapes_of(tensors)), new_head).names
    load(model, tensors, network, new_head)
    return model.eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_of_a_folder_are_those_of_transformers(name: str, folders: Path):
    file = locate({"path": str(folders / name)}, "transformers", "")
    model, own = (
        started(folders / name, read_weights(file)),
        getattr(transformers, name).from_pretrained(folders / name),
    )
    inputs = inputs_of(name)
    with torch.no_grad():
        assert torch.equal(model(inputs), own.eval()(inputs).logits)
    assert model.state_dict().keys() == own.state_dict().keys(), "so that transformers loads what is exported"


def test_weights_of_the_whole_network_go_into_one_with_a_head(folders: Path):
    """GPT-2's published file has no prefix, masks of attention, and no matrix of the last layer."""
    folder = folders / "GPT2LMHeadModel"
    saved = load_file(folder / "model.safetensors")
    published = {name.removeprefix("transformer."): tensor for name, tensor in saved.items()}
    published |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32).tril() for layer in range(LAYERS)}
    assert torch.equal(started(folder, published).lm_head.weight, saved["transformer.wte.weight"])


def test_a_new_head_is_random_and_the_rest_is_of_the_file(folders: Path):
    folder = folders / "ViTForImageClassification"
    saved = load_file(folder / "model.safetensors")
    cut = {name: tensor for name, tensor in saved.items() if not name.startswith("classifier")}
    model = started(folder, cut, new_head=True, classes=3)
    assert model.classifier.weight.shape == (3, WIDTH)
    assert torch.equal(model.vit.embeddings.cls_token, saved["vit.embeddings.cls_token"])


def test_what_a_file_has_otherwise_is_named(folders: Path):
    folder = folders / "GPT2LMHeadModel"
    saved = load_file(folder / "model.safetensors")
    other = {**saved, "strange": torch.zeros(2), "transformer.wpe.weight": torch.zeros(5, WIDTH)}
    del other["transformer.ln_f.bias"]
    choice, (shape, classes) = chosen(folder), shape_of(folder.name)
    network = outline(lambda count: models.build(choice, shape, count), classes)
    model = models.build(choice, shape, classes)
    said = str(differences(network, shapes_in(model, shapes_of(other)), False))
    assert "1 tensor that the file lacks (transformer.ln_f.bias [16])" in said
    assert "1 tensor that the network lacks (strange [2])" in said
    assert "1 tensor of another shape (transformer.wpe.weight [32, 16], in the file [5, 16])" in said


def test_a_tied_matrix_is_counted_once(folders: Path):
    """GPT-2: 12 d^2 weights a block and V d of the embedding, which is the last layer's matrix; attention, 2 T^2 d."""
    model = models.build(chosen(folders / "GPT2LMHeadModel"), (1, 1, CONTEXT), VOCABULARY).eval()
    recording = record(model, inputs_of("tokens"))
    weights = prunable(model, recording)
    count = 12 * WIDTH**2 * LAYERS + VOCABULARY * WIDTH
    assert sum(weight.numel() for weight in weights.values()) == count
    assert "lm_head.weight" not in weights
    costs = sum(layer.multiply_adds for layer in layer_costs(weights, recording))
    assert costs == CONTEXT * count + LAYERS * 2 * CONTEXT**2 * WIDTH


def test_the_key_is_of_what_the_configuration_says(folders: Path, tmp_path: Path):
    folder = folders / "GPT2LMHeadModel"
    said = json.loads((folder / "config.json").read_text())
    told = {"transformers_version": "4.0.0", "_name_or_path": "/elsewhere", "id2label": {"0": "cat"}}
    reordered = dict(reversed([*{**said, **told}.items()]))
    for name, settings in (("moved", reordered), ("deeper", {**said, "n_layer": 3})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
    assert chosen(tmp_path / "moved") == chosen(folder)
    assert chosen(tmp_path / "deeper") != chosen(folder)
    assert str(folder) not in str(chosen(folder).options)
    assert described(str(chosen(folder).settings["config"])).startswith("GPT2LMHeadModel 2x16 ")


GPT2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **ARCHITECTURES["GPT2LMHeadModel"]}

REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "there is no .*config.json, which describes the model: save it there with model.save_pretrained"),
    "no JSON": ("{", "config.json is no JSON text"),
    "no number": ('{"a": NaN}', "config.json is no JSON text: NaN is no number"),
    "another JSON": ([], "describes no model of transformers: it has no model_type"),
    "own code": (
        {**GPT2, "auto_map": {"AutoModel": "m.M"}},
        "has auto_map: it names code of its own, which is nev",
    ),
    "quantized": (
        {**GPT2, "quantization_config": {"bits": 4}},
        "has quantization_config: it describes quantized",
    ),
    "no architecture": ({**GPT2, "architectures": None}, "architectures is null; name one, such as"),
    "unknown": (
        {**GPT2, "architectures": ["GPT2LMHead"]},
        'unknown architecture GPT2LMHead: of transformers .* are taken; did you mean "GPT2LMHeadModel"',
    ),
    "another kind": ({**GPT2, "architectures": ["BertModel"]}, "unknown architecture BertModel"),
    "another type": ({**GPT2, "model_type": "none"}, "its config.json makes no network: Unrecognized model identifier"),
    "heads": ({**GPT2, "n_head": 3}, "GPT2LMHeadModel 2x16 .*: its config.json makes no network: .*divisible"),
    "a text": ({**GPT2, "n_embd": "wide"}, "its config.json makes no network"),
}


@pytest.mark.parametrize(("said", "answer"), REFUSED.values(), ids=REFUSED)
def test_mistakes_in_a_folder(said: Any, answer: str, tmp_path: Path):
    if said is not None:
        (tmp_path / "config.json").write_text(said if isinstance(said, str) else json.dumps(said))
    with pytest.raises(UserError, match=answer):
        chosen(tmp_path)


def test_without_a_path_the_error_says_what_to_give():
    with pytest.raises(UserError, match=r"\{name: transformers, path: FOLDER\}; the small network .* transformer$"):
        models.read("transformers", {})


def test_without_the_package_the_error_says_how_to_install_it(folders: Path, monkeypatch: pytest.MonkeyPatch):
    config = str(chosen(folders / "GPT2LMHeadModel").settings["config"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'prunesweep\[transformers\]'"):
        build((1, 1, 8), 256, config=config)


def test_what_a_dataset_has_must_fit(folders: Path):
    choice = chosen(folders / "GPT2LMHeadModel")
    with pytest.raises(UserError, match="vocabulary of 256 tokens, and the dataset 257: take the tokenizer"):
        models.build(choice, (1, 1, 8), 257)(inputs_of("tokens"))
    with pytest.raises(UserError, match="up to 32 tokens, and the dataset's have 40: give it a smaller context"):
        models.build(choice, (1, 1, 40), 256)(torch.zeros(1, 40, dtype=torch.long))
    with pytest.raises(UserError, match="takes tokens, and gets images: take the dataset text"):
        models.build(choice, IMAGES, 10)(torch.zeros(1, *IMAGES))
    with pytest.raises(UserError, match="takes images, and gets tokens"):
        models.build(chosen(folders / "ViTForImageClassification"), IMAGES, 10)(inputs_of("tokens"))


CONV1D = tuple(
    f"transformer.h.{layer}.{name}.weight"
    for layer in range(LAYERS)
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
)


def test_matrices_that_stand_the_other_way_round_are_known(folders: Path):
    """GPT-2's Conv1D, square ones too; not the tied embedding, a matrix [vocabulary, width] like any layer's."""
    for name, transposed in (("GPT2LMHeadModel", {*CONV1D}), ("LlamaForCausalLM", set())):
        model = models.build(chosen(folders / name), (1, 1, CONTEXT), VOCABULARY).eval()
        assert record(model, inputs_of(name)).transposed == transposed


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (
            GMP(pruning_interval=1, allocation="2:4"),
            "2:4 takes weights .* and transformer.h.0.attn.c_attn.weight, .* and 5 more",
        ),
        (
            DST(penalty=1e-4),
            r"method dst takes weights \[outputs, inputs\], .* prune: {except: \[...\]}, or take another m",
        ),
    ],
    ids=["N:M", "DST"],
)
def test_what_goes_by_inputs_or_outputs_refuses_them(method: Method, answer: str, folders: Path, tmp_path: Path):
    asked_for = replace(asked(folders, Store(tmp_path), fine_tunes=True), sparsity=0.5)
    stage = method.stage(replace(asked_for, method=method.choice(type(method).__name__.lower()))).root
    with pytest.raises(UserError, match=answer):
        examine_stage(stage, Where(str(folders)))
    examine_stage(replace(stage, prune=Scope.of(exempt=["Conv1D"])), Where(str(folders)))


# --- tokens

WORDS = {"[UNK]": 0, "a": 1, "b": 2, "c": 5}


def tokenizer_in(folder: Path, words: Mapping[str, int] = MappingProxyType(WORDS)) -> None:
    made = Tokenizer(WordLevel(dict(words), unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.save(str(folder / "tokenizer.json"))


def tokens(folder: Path, **options: Any) -> Any:
    return data.load(data.choose("text", {"context": 2, "tokenizer": "model", **options}), str(folder))


def test_a_text_is_read_as_the_tokens_of_a_tokenizer(tmp_path: Path):
    """Every word is one; the vocabulary goes to its highest number, also where some are left out."""
    (tmp_path / "model").mkdir()
    tokenizer_in(tmp_path / "model")
    (tmp_path / "text.txt").write_text("a b c d\n" * 6)
    dataset = tokens(tmp_path)
    assert dataset.classes == 6
    assert next(iter(dataset.evaluation_batches("test", batch_size=1)))[0].tolist() == [[1, 2]]
    assert dataset.splits["train"][0].tolist() == [1, 2, 5]
    assert dataset.splits["train"][1].tolist() == [5, 0, 1]


def test_a_tokenizer_is_in_the_key(tmp_path: Path):
    (tmp_path / "model").mkdir()
    (tmp_path / "text.txt").write_text("a b c d\n" * 6)
    plain, keys = trial("language_modelling"), set()
    for words in (WORDS, {**WORDS, "d": 3}):
        tokenizer_in(tmp_path / "model", words)
        for settings in ({"tokenizer": "model"}, {}):
            asked_for = replace(plain, dataset=data.choose("text", {"context": 2, **settings}))
            keys.add(fingerprinted([asked_for], str(tmp_path), {})[0].key)
    assert len(keys) == 3, "of each tokenizer, and without one"


def test_mistakes_with_tokenizers(tmp_path: Path):
    (tmp_path / "text.txt").write_bytes(b"\xff" * 30)
    with pytest.raises(UserError, match=r"there is no .*model; set `tokenizer`, and --data-dir"):
        tokens(tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"there is no .*model/tokenizer.json; tokenizer.save_pretrained of trans"):
        tokens(tmp_path)
    (tmp_path / "model/tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"text.txt is no text in UTF-8, as a tokenizer needs it"):
        tokens(tmp_path)
    (tmp_path / "text.txt").write_text("a b")
    with pytest.raises(UserError, match=r"tokenizer.json is no tokenizer: "):
        tokens(tmp_path)
    tokenizer_in(tmp_path / "model")
    with pytest.raises(UserError, match=r"text.txt has 2 tokens, and 10 windows of context 2 need 21"):
        tokens(tmp_path, context=2, path="./text.txt")


# --- in stages


def asked(folders: Path, store: Store, *, fine_tunes: bool) -> TrialSpec:
    """A trial that starts from the weights in GPT-2's folder."""
    (folders / "text.txt").write_bytes(b"abcdefgh" * 200)
    weights = read_weights(folders / "GPT2LMHeadModel" / "model.safetensors")
    put_weights(weights, content_hash(weights), store)
    asked = trial("language_modelling")
    text = data.choose("text", {"path": str(folders / "text.txt"), "context": CONTEXT})
    train = replace(asked.train, epochs=3, batch_size=16, lr=0.05)
    init = Init(content_hash(weights), fine_tunes=fine_tunes)
    choice = chosen(folders / "GPT2LMHeadModel")
    return fingerprinted([replace(asked, dataset=text, model=choice, train=train, init=init)], "", {})[0]


def test_a_folder_is_pruned_and_retrained(folders: Path, tmp_path: Path):
    """Half of each matrix, the tied one as one matrix, and the same zeros under both of its names."""
    store = Store(tmp_path)
    stage = IMP(retrain_epochs=1).stage(asked(folders, store, fine_tunes=False))
    contract.run(stage, store)
    result = store.result(stage.key)
    assert result is not None
    assert result["metrics"]["reached_sparsity"] == pytest.approx(0.5, abs=1e-3)
    count = 12 * WIDTH**2 * LAYERS + VOCABULARY * WIDTH
    assert sum(layer["weights"] or 0 for layer in result["layers"]) == count
    tensors = contract.network(stage, store)
    assert torch.equal(tensors["lm_head.weight"], tensors["transformer.wte.weight"])
    assert int((tensors["lm_head.weight"] == 0).sum()) > 0


def test_resumed_equals_unbroken(folders: Path, tmp_path: Path):
    """With dropout, and a matrix of two names in the checkpoint."""
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    gmp = GMP(pruning_interval=1)
    trials = [replace(asked(folders, s, fine_tunes=True), method=gmp.choice("gmp")) for s in (unbroken, broken)]
    stages = [gmp.stage(trial) for trial in trials]
    contract.run(stages[0], unbroken)
    contract.resumed_after(2, stages[1], broken)
    assert contract.numbers(stages[0], unbroken) == contract.numbers(stages[1], broken)
