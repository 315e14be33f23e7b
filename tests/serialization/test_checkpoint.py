"""Checkpoints on a disk that fills up, damaged, foreign, malicious."""

import errno
import json
import resource
from collections import namedtuple
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src.config.schema.root import SerializeConf
from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.serialization.checkpoint import Written, load_into, remove, verify, write_info, write_weights
from src.serialization.files import replacing, sha256_of
from src.serialization.info import SCHEMA_VERSION, other_versions, read_info
from tests.conftest import ROOT
from tests.serialization.states import Payload, empty, same, small

CPU = torch.device("cpu")


@pytest.fixture
def saved(compose, tmp_path):
    """saved(quant, format, trust) -> the folder of a checkpoint of the small model."""

    def made(quant: str = "int8wo", **conf: object) -> Path:
        state = dict(small(quant).state_dict())
        written = write_weights(state, tmp_path / "checkpoint", SerializeConf(**conf))
        write_info(written, state, compose("quant=int8wo"), [])
        return tmp_path / "checkpoint"

    return made


def load(folder: Path, model=None, trust: bool = False):
    info = read_info(folder)
    verify(folder, info)
    model = empty() if model is None else model
    load_into(model, folder, info, CPU, trust)
    return model


def rewrite(folder: Path, **changed: object) -> None:
    """Change config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def forge(folder: Path) -> None:
    """Let config.json say of the weights what they now are."""
    path = folder / read_info(folder).file
    rewrite(folder, bytes=path.stat().st_size, sha256=sha256_of(path))


@pytest.mark.parametrize(
    ("quant", "conf", "format"),
    [
        ("none", {}, "safetensors"),
        ("int8wo", {}, "safetensors"),
        ("int8wo", {"format": "torch"}, "torch"),
        ("int4wo", {}, "torch"),
        ("training", {"trust": True}, "pickle"),
    ],
)
def test_a_checkpoint_comes_back(saved, quant, conf, format):
    folder, model = saved(quant, **conf), small(quant)
    info = read_info(folder)
    assert info.format == format
    loaded = load(folder, trust=format == "pickle")
    assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    assert all(same(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    x = torch.randn(5, 64, dtype=torch.bfloat16)
    assert torch.equal(model(x), loaded(x))
    assert other_versions(info) == []
    remove(folder)
    assert not folder.exists()


def test_removing_leaves_what_is_not_ours(saved):
    folder = saved()
    (folder / "notes.txt").write_text("mine")
    remove(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("quant", "conf", "reason", "remedy"),
    [
        ("int4wo", {"format": "safetensors"}, "cannot put a Int4OpaqueTensor", "serialize.format=auto"),
        ("training", {}, "only an unsafe pickle can carry", "serialize.trust=true"),
    ],
)
def test_what_no_format_can_carry_is_unsupported(saved, tmp_path, quant, conf, reason, remedy):
    with pytest.raises(RunEndedError, match=reason) as end:
        saved(quant, **conf)
    assert end.value.outcome is Outcome.UNSUPPORTED
    assert remedy in end.value.remedy
    assert list((tmp_path / "checkpoint").iterdir()) == []


# ---- the disk


@contextmanager
def small_files():
    """This process may write files of 64 KiB only: the kernel ends a write half way, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("format", "name"), [("safetensors", "weights.safetensors"), ("torch", "weights.pt")]
)
def test_a_disk_that_takes_no_more_keeps_the_old_file(tmp_path, format, name):
    (tmp_path / name).write_text("old")
    with small_files(), pytest.raises(RunEndedError, match="could not be written") as end:
        write_weights({"w": torch.zeros(1_000_000)}, tmp_path, SerializeConf(format=format))
    assert end.value.outcome is Outcome.FAILED
    assert str(tmp_path / name) in end.value.reason
    assert "free space" in end.value.remedy
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "old"}


def test_a_writer_that_finds_the_disk_full(tmp_path):
    def write() -> None:
        with replacing(tmp_path / "weights.pt", 10) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "weights.pt").write_text("old")
    with pytest.raises(RunEndedError, match="No space left on device") as end:
        write()
    assert end.value.outcome is Outcome.FAILED
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_too_little_space_is_seen_before_writing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("src.serialization.files.shutil.disk_usage", lambda _: usage(100, 90, 10))
    with pytest.raises(RunEndedError, match="do not fit into"):
        write_weights({"w": torch.zeros(100)}, tmp_path, SerializeConf())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_config_json(saved, compose):
    folder, (soft, hard) = saved(), resource.getrlimit(resource.RLIMIT_FSIZE)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = Written("safetensors", folder / "weights.safetensors", {}, [])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(
            RunEndedError, match=r"config\.json could not be written: .*File too large"
        ) as end:
            write_info(written, dict(small("int8wo").state_dict()), compose("quant=int8wo"), [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free space" in end.value.remedy
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ---- what is not as it was saved


def cut(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip(folder: Path) -> None:
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def cut_and_forge(folder: Path) -> None:
    cut(folder)
    forge(folder)


def text(folder: Path) -> None:
    (folder / "weights.safetensors").write_text("To be, or not to be")
    forge(folder)


def random_safetensors(folder: Path) -> None:
    save_file({"of": torch.zeros(3), "another": torch.zeros(2)}, folder / "weights.safetensors")
    forge(folder)


def gone(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def no_info(folder: Path) -> None:
    (folder / "config.json").unlink()


def text_info(folder: Path) -> None:
    (folder / "config.json").write_text("To be, or not to be")


def foreign_info(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel"}))


def list_info(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def short_info(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"kind": "quantpay checkpoint", "schema_version": 1}))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "truncated"),
        (flip, "SHA-256 is not the one"),
        (cut_and_forge, "not a readable safetensors file"),
        (text, "not a readable safetensors file"),
        (random_safetensors, "of another model: 6 missing, as layers.0.bias; 2 unknown, as another"),
        (gone, "is missing"),
        (no_info, "so this is no checkpoint"),
        (text_info, "not JSON"),
        (foreign_info, "Small has no from_pretrained"),
        (list_info, "not written by task=serialize"),
        (short_info, "not complete"),
        (lambda folder: rewrite(folder, schema_version=9), "schema 9 is newer than 1"),
        (lambda folder: rewrite(folder, file="../weights.safetensors"), "no format safetensors in a file"),
        (lambda folder: rewrite(folder, format="gguf"), "no format gguf"),
        (lambda folder: rewrite(folder, format="torch", file="weights.pt"), "is missing"),
        *((lambda folder, key=key, value=value: rewrite(folder, **{key: value}), f"{key} is not what")
          for key, value in (("format", ["torch"]), ("tensor_classes", 7), ("tensor_classes", [7]), ("model", "x"),
                             ("unsafe", None), ("versions", []), ("schema_version", "1"))),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_checkpoint_is_said_to_be_one(saved, damage, reason):
    folder = saved()
    damage(folder)
    with pytest.raises(RunEndedError, match=reason.replace("(", r"\(")) as end:
        load(folder)
    assert end.value.outcome is Outcome.FAILED
    assert "\n" not in end.value.reason
    assert str(folder) in end.value.reason
    assert end.value.remedy


def test_a_checkpoint_of_a_wider_model_names_what_differs(saved):
    with pytest.raises(RunEndedError, match="3 of another shape") as end:
        load(saved(), empty(width=256))
    assert "as layers.0.weight: (128, 64) instead of (256, 64)" in end.value.reason
    assert "the model, target and quant" in end.value.remedy


def test_other_versions_are_a_warning(saved):
    info = read_info(saved())
    old = replace(info, versions=info.versions | {"torchao": "0.17.0"})
    (said,) = other_versions(old)
    assert said.startswith("saved with torchao 0.17.0, loaded with ")


def test_tensors_that_were_not_saved_as_such_are_missed(saved):
    with pytest.raises(
        RunEndedError, match=r"holds plain tensors instead of .*CodebookQuantizedTensor"
    ) as end:
        load(saved("codebook"))
    assert end.value.outcome is Outcome.UNSUPPORTED


# ---- malice


@pytest.mark.parametrize("format", ["torch", "pickle"])
def test_a_malicious_pickle_is_not_run(saved, tmp_path, format):
    """The attacker controls the whole folder: the weights, their hash, and what config.json says of them."""
    folder, marker = saved(format="torch"), tmp_path / "marker"
    torch.save(small().state_dict() | {"x": Payload(marker)}, folder / "weights.pt")
    rewrite(folder, format=format, unsafe=["harmless.Thing"] if format == "pickle" else [])
    forge(folder)
    with pytest.raises(RunEndedError, match="not loaded") as end:
        load(folder)
    assert not marker.exists()
    assert end.value.remedy
    if format == "pickle":
        assert "serialize.trust=true" in end.value.remedy


def test_trust_does_not_unpickle_what_needs_no_pickle(saved, tmp_path):
    folder, marker = saved(format="torch"), tmp_path / "marker"
    torch.save(small().state_dict() | {"x": Payload(marker)}, folder / "weights.pt")
    forge(folder)
    with pytest.raises(RunEndedError, match="not loaded"):
        load(folder, trust=True)
    assert not marker.exists()


def test_nothing_loads_a_pickle_but_the_one_place():
    """`weights_only=False` is decided in one line of the sources."""
    sources = (ROOT / "src").rglob("*.py")
    calls = [
        line.strip() for path in sources for line in path.read_text().splitlines() if "torch.load(" in line
    ]
    assert all(
        "weights_only=True" in line or "weights_only=not trust" in line for line in calls if "``" not in line
    )
    assert SCHEMA_VERSION == 1
