"""Model folders on disk: the shipped one, and all the ways a folder can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagemesh.errors import ConfigError
from stagemesh.repository import Batching, ModelFolder, read_model, read_repository, split_batching

MODELS = Path(__file__).parents[2] / "models"
GOOD = '[model]\ntask = "classify"\n'


def write_model(folder: Path, text: str, labels: str | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(text)
    if labels is not None:
        (folder / "labels.txt").write_text(labels)
    return folder


def test_shipped_classify_model() -> None:
    model = read_model(MODELS / "classify")
    assert (model.name, model.task, model.version, len(model.labels)) == ("classify", "classify", "1", 1000)
    assert (model.labels[0], model.labels[967], model.labels[999]) == ("tench", "espresso", "toilet tissue")
    batching, rest = split_batching(model.table("infer"), model.where("infer"))
    assert batching == Batching(max_batch=16, queue_delay_us=2000, max_queue=128)
    assert rest["outputs"] == ["logits"]
    assert "max_batch" not in rest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model\n", "model.toml: expected TOML: "),
        ("", "model.toml [model]: expected this table, found only none"),
        ("[infer]\n", "model.toml [model]: expected this table, found only [infer]"),
        ("task = 'classify'\n", "expected only tables at the top level, found the key 'task'"),
        ("[model]\n", "model.toml [model]: key 'task' is missing; expected one of 'classify', 'detect'"),
        ("[model]\ntask = 'guess'\n", "key 'task': expected one of 'classify'"),
        (GOOD + "lables = 'x'\n", "[model]: unknown key 'lables'; expected one of: task, labels, version"),
        (GOOD + "version = 2\n", "key 'version': expected a string, found 2"),
        (GOOD + "version = 'a/b'\n", "key 'version': expected a whole number such as"),
        (GOOD + "labels = 'none.txt'\n", "key 'labels': expected the file 'none.txt'"),
        (GOOD + "labels = '../other.txt'\n", "key 'labels': expected a file inside"),
        (GOOD + "labels = '/etc/hostname'\n", "key 'labels': expected a file inside"),
        (GOOD + "labels = 'link.txt'\n", "key 'labels': expected a file inside"),
        (GOOD + "labels = 'circle.txt'\n", "key 'labels': "),
        (GOOD + "labels = 'gap.txt'\n", "expected a label on each line of 'gap.txt', found line 2 empty"),
        (GOOD + "labels = 'latin.txt'\n", "key 'labels': expected UTF-8 text"),
        (GOOD + "labels = 'a\\u0000b'\n".replace("'", '"'), "key 'labels': can't follow"),
    ],
)
def test_bad_model(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "other.txt").write_text("x\n")
    folder = write_model(tmp_path / "m", text)
    (folder / "link.txt").symlink_to(tmp_path / "other.txt")
    (folder / "circle.txt").symlink_to(folder / "circle.txt")
    (folder / "gap.txt").write_text("a\n\nc\n")
    (folder / "latin.txt").write_bytes("é\n".encode("latin-1"))
    with pytest.raises(ConfigError) as raised:
        read_model(folder)
    assert message in str(raised.value)
    assert str(folder) in str(raised.value)


def test_labels_may_be_a_link_inside_the_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", GOOD + "labels = 'now.txt'\n", "cat\r\ndog\r\n")
    (folder / "now.txt").symlink_to("labels.txt")
    assert read_model(folder).labels == ("cat", "dog")


@pytest.mark.parametrize("name", ["with space", "-x", "ü", "a" * 101])
def test_bad_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a folder name of the form"):
        read_model(write_model(tmp_path / name, GOOD))


def test_missing_stage_table_names_the_others(tmp_path: Path) -> None:
    model = read_model(write_model(tmp_path / "m", GOOD + "[infer]\n"))
    with pytest.raises(ConfigError, match=r"\[preprocess\]: expected this table, found only \[model\], \[infer\]"):
        model.table("preprocess")


def test_repository_keeps_good_models_beside_bad_ones(tmp_path: Path) -> None:
    write_model(tmp_path / "good", GOOD)
    write_model(tmp_path / "broken", "[model\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "README.md").write_text("models")
    models = read_repository(tmp_path)
    assert list(models) == ["broken", "empty", "good"]
    assert isinstance(models["good"], ModelFolder)
    assert "expected TOML" in str(models["broken"])
    assert "expected the file 'model.toml'" in str(models["empty"])


def test_names_select_and_unknown_names_list_the_known(tmp_path: Path) -> None:
    write_model(tmp_path / "a", GOOD)
    write_model(tmp_path / "b", GOOD)
    assert list(read_repository(tmp_path, ["b"])) == ["b"]
    with pytest.raises(ConfigError, match="unknown model 'c'; known models: a, b"):
        read_repository(tmp_path, ["a", "c"])
    with pytest.raises(ConfigError, match="expected a folder of models"):
        read_repository(tmp_path / "none")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"max_batch": 0}, "key 'max_batch': expected 1 to 1024, found 0"),
        ({"max_batch": 10**9}, "key 'max_batch': expected 1 to 1024"),
        ({"queue_delay_us": -1}, "key 'queue_delay_us': expected 0 to"),
        ({"max_queue": 0}, "key 'max_queue': expected 1 to"),
        ({"queue_timeout_us": -5}, "key 'queue_timeout_us'"),
        ({"instances": -1}, "key 'instances'"),
        ({"max_batch": 8, "preferred_batch": [4, 16]}, "key 'preferred_batch': expected 1 to 8, found 16"),
        ({"preferred_batch": 4}, "key 'preferred_batch': expected a list"),
    ],
)
def test_bad_batching(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        split_batching(table, "m.toml [infer]")
    assert message in str(raised.value)
