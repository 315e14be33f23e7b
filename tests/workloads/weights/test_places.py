"""A folder of weights is looked at before the run: whether it is there, of which variant, and unquantized."""

import json
from pathlib import Path

import pytest

from src.config.schema.model import WeightsConf
from src.workloads.weights.places import problems_of_weights

WHERE = "model.weights"


def problems(folder: Path | str, **given: object) -> list[str]:
    weights = WeightsConf(source="local", id=str(folder), **given)  # type: ignore[arg-type]
    return list(problems_of_weights(weights, WHERE))


def test_whole_checkpoints_are_accepted(checkpoints: Path) -> None:
    for name in ("plain", "pipeline/transformer"):
        assert problems(checkpoints / name) == []
    assert problems(checkpoints / "pipeline", subfolder="transformer") == []
    for name in ("fp16", "shards"):
        assert problems(checkpoints / name, variant="fp16") == []


def test_home_is_where_it_is(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(checkpoints))
    assert problems("~/plain") == []
    assert WeightsConf(source="local", id="~/plain").id == str(checkpoints / "plain")
    assert WeightsConf(source="hub", id="~/plain").id == "~/plain"
    (said,) = problems("~/plane")
    assert said.startswith(
        f"model.weights.id={checkpoints}/plane: no folder {checkpoints}/plane; give a folder"
    )


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("pipeline", {}, "no config.json in {0}/pipeline; give model.weights.subfolder=transformer"),
        (
            "pipeline",
            {"subfolder": "unet"},
            "no folder {0}/pipeline/unet; give model.weights.subfolder=transformer",
        ),
        ("plain", {"variant": "fp16"}, "variant=fp16: no such files in {0}/plain; accepted: none; or null"),
        ("fp16", {}, "variant=null: {0}/fp16 has only files of a variant; give model.weights.variant=fp16"),
        ("shards", {"variant": "bf16"}, "variant=bf16: no such files in {0}/shards; accepted: fp16"),
        ("int8", {}, "is Int8Tensor, the first of 24 such parameters; give an unquantized checkpoint"),
        ("partly_int8", {}, "task=serialize serialize.load={0}/partly_int8"),
        (
            "float8",
            {},
            "blocks.0.attn1.to_k.weight is float8_e4m3fn, the first of 20 such parameters; give an",
        ),
        (
            "plain",
            {"arguments": {"quantization_config": {}}},
            "arguments.quantization_config: is not given here",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_give(
    checkpoints: Path, name: str, given: dict[str, object], said: str
) -> None:
    (problem,) = problems(checkpoints / name, **given)
    assert said.format(checkpoints) in problem
    assert problem.startswith(f"{WHERE}.")


HEADER = {"blocks.0.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}


def safetensors(header: dict[str, object] = HEADER, size: int = 4) -> bytes:
    """A file of this header; `size`: bytes of the tensors behind it."""
    said = json.dumps(header).encode()
    return len(said).to_bytes(8, "little") + said + bytes(size)


def folder_of(tmp_path: Path, files: dict[str, bytes]) -> Path:
    for name, content in {"config.json": b"{}", **files}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


MODEL = "diffusion_pytorch_model.safetensors"
SHARDS = {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": "gone.safetensors"}
DAMAGED: dict[str, tuple[dict[str, bytes], str]] = {
    "no JSON": ({"config.json": b"{]", MODEL: safetensors()}, "config.json in {0} cannot be read"),
    "latin-1": ({"config.json": "{'ö'}".encode("latin-1")}, "config.json in {0} cannot be read"),
    "a list": ({"config.json": b"[]", MODEL: safetensors()}, "config.json in {0} is no model's; give a folder"),
    "no weights": ({"README.md": b""}, "no weights in {0}, neither .safetensors nor .bin; give a folder"),
    "a pointer": (
        {MODEL: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"},
        "{0}/diffusion_pytorch_model.safetensors is git-lfs's pointer to a file that was not fetched; run git lfs",
    ),
    "a pickled pointer": (
        {"diffusion_pytorch_model.bin": b"version https://git-lfs.github.com/spec/v1\n"},
        "{0}/diffusion_pytorch_model.bin is git-lfs's pointer",
    ),
    "an empty pickle": ({"pytorch_model.bin": b""}, "{0}/pytorch_model.bin is empty; fetch it again"),
    "a missing shard": (
        {"diffusion_pytorch_model.safetensors.index.json": json.dumps({"weight_map": SHARDS}).encode(),
         SHARDS["a"]: safetensors()},
        "gone.safetensors, which diffusion_pytorch_model.safetensors.index.json names, is not in {0}; fetch",
    ),
    "the half of a file": ({MODEL: safetensors(size=3)}, f"{{0}}/{MODEL} is no whole safetensors file; fetch it"),
}  # fmt: skip
DAMAGED |= {
    f"rubbish {number}": ({MODEL: content}, f"{{0}}/{MODEL} is no whole safetensors file; fetch it again")
    for number, content in enumerate(
        [b"", b"\x05" + bytes(7) + b"hello", b"\xff" * 32, b"\x02" + bytes(7) + b"[]"]
    )
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_refused_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    files, said = DAMAGED[name]
    (problem,) = problems(folder_of(tmp_path, files))
    assert problem.startswith(f"model.weights.id={tmp_path}: {said.format(tmp_path)}")
    assert "\n" not in problem


def test_another_variants_damage_is_none_of_ours(tmp_path: Path) -> None:
    files = {
        MODEL: safetensors(),
        "diffusion_pytorch_model.fp16-ema.safetensors": b"",
        "other.safetensors": b"",
    }
    assert problems(folder_of(tmp_path, files)) == []
    (problem,) = problems(tmp_path, variant="fp16-ema")
    assert "fp16-ema.safetensors is no whole" in problem
    (problem,) = problems(tmp_path, variant="ema")
    assert "accepted: fp16-ema; or null" in problem


# names and types, as quantizers store them -> whether that is quantized
STORED = {
    "blocks.0.to_q.weight": ("I8", True),
    "blocks.0.to_q.weight._data": ("I8", True),
    "blocks.0.to_q.weight_packed": ("I32", True),
    "blocks.0.to_q.qweight": ("I32", True),
    "blocks.0.to_q.W_q": ("U8", True),
    "blocks.0.to_k.weight": ("F8_E4M3", True),
    "blocks.0.scale_weight": ("F8_E8M0", True),
    "position_ids": ("I64", False),
    "attn.relative_position_index": ("I32", False),
    "norm.num_batches_tracked": ("I64", False),
    "mask": ("U8", False),
    "attn.mask": ("BOOL", False),
    "norm.weight": ("F32", False),
    "weight_mask": ("I8", False),
}


@pytest.mark.parametrize("name", STORED)
def test_whole_numbers_are_a_quantized_weight_by_their_name(tmp_path: Path, name: str) -> None:
    stored, quantized = STORED[name]
    header = HEADER | {name: {"dtype": stored, "shape": [2], "data_offsets": [0, 2]}}
    found = problems(folder_of(tmp_path, {MODEL: safetensors(header)}))
    assert bool(found) == quantized
    assert not quantized or f"{name} is " in found[0]


@pytest.mark.parametrize(
    ("files", "method"),
    [
        ({"config.json": {"quantization_config": {"quant_method": "bitsandbytes"}}}, "bitsandbytes"),
        ({"config.json": {"compression_config": {"format": "pack-quantized"}}}, "a method without a name"),
        ({"quanto_qmap.json": {}}, "quanto"),
        ({"hf_quant_config.json": {}}, "modelopt"),
    ],
)
def test_what_a_quantizer_leaves_beside_the_weights_is_seen(
    tmp_path: Path, files: dict[str, object], method: str
) -> None:
    written = {name: json.dumps(content).encode() for name, content in files.items()}
    (problem,) = problems(folder_of(tmp_path, {MODEL: safetensors(), **written}))
    assert (
        f"quantized, but a baseline is unquantized: its quantization_config says {method}; give an" in problem
    )


def test_a_hubs_cache_is_entered_by_a_snapshot(tmp_path: Path) -> None:
    (tmp_path / "snapshots" / "abc" / "unet").mkdir(parents=True)
    (tmp_path / "snapshots" / "abc" / "unet" / "config.json").write_text("{}")
    (problem,) = problems(tmp_path)
    assert problem.endswith(f"; give model.weights.id={tmp_path}/snapshots/abc")
    (problem,) = problems(tmp_path / "snapshots" / "abc")
    assert problem.endswith("; give model.weights.subfolder=unet")


def test_a_single_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "flux.safetensors").write_bytes(safetensors())
    (problem,) = problems(tmp_path / "flux.safetensors")
    assert (
        "flux.safetensors: a file, and from_pretrained reads a folder: make one by the class's from_single"
        in problem
    )


def test_a_folder_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me" / "model").mkdir(parents=True)
    said = {
        "black-forest-labs/FLUX.1-dev": "",
        "gpt2": "",
        "me/model": "is a folder here",
        str(tmp_path): "is a folder here",
        "~/no such": "no repository, which is OWNER/NAME; for a folder give model.weights.source=local",
        "./nope": "no repository",
        "https://huggingface.co/a/b": "no repository",
    }
    for name, expected in said.items():
        found = list(problems_of_weights(WeightsConf(source="hub", id=name), WHERE))
        assert (expected in found[0]) if expected else found == [], name
