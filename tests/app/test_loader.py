"""Sharing compositions changes nothing: every job equals what Hydra's own loader composes."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hydra import version
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, Node, OmegaConf, open_dict
from yaml import YAMLError

from src.app.composing import choices
from src.app.composing.loader import Loader, check_job, checked_jobs
from src.checks.validation import validate
from src.config.paths import ROOT, config_source
from src.config.schema.root import register

CHOICES = [
    [],
    ["quant=autoquant", "model=linear"],
    ["sweeps=linear_shapes"],
    ["+quant@quant.candidates.mine=int8wo"],
]
VALUES = [
    [],
    ["batch=4", "resolution=512", "dtype=float16"],
    ["outputs=elsewhere", "batch=${seed}", "seed=3"],
    ["+model.dims.extra=batch * 2", "model.call={a: [1, 2], b: null}"],
    ["~quant.config.set_inductor_config", "++quant.config.x='a, b'"],
    ["measure={margin: 0.1}", "model.targets.mine=x.y"],
    ["hydra.job.name=other", "batch=2"],
    ["batch=abc"],
    ["nonsense=1"],
    ["quant=nonsense"],
    ["batch=1,2"],
]


@pytest.fixture
def loader() -> Iterator[Loader]:
    version.setbase("1.3")
    register()
    loader = Loader(create_config_search_path(config_source(ROOT / "conf")))
    GlobalHydra.instance().initialize(Hydra(task_name="test", config_loader=loader))
    yield loader
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("master", "jobs"),
    [
        ([], [*itertools.product(CHOICES[:1], VALUES), *itertools.product(CHOICES[1:], VALUES[1:4])]),
        (["hydra.verbose=true", "hydra/launcher=basic"], itertools.product(CHOICES, VALUES[:1])),
    ],
    ids=["all", "settings of Hydra's own"],
)
def test_a_job_equals_hydras_own(
    loader: Loader, master: list[str], jobs: Iterable[tuple[list[str], list[str]]]
) -> None:
    config = loader.load_configuration("config", ["hydra.mode=MULTIRUN", *master], RunMode.MULTIRUN)
    for job in ([*a, *b] for a, b in jobs):
        with _hydras_own_choices():
            plain = _outcome(lambda: ConfigLoaderImpl.load_sweep_config(loader, config, job))  # noqa: B023
        shared = [_outcome(lambda: loader.load_sweep_config(config, job)) for _ in range(2)]  # noqa: B023
        assert shared == [plain, plain], job


@pytest.mark.parametrize("overrides", CHOICES[:2], ids=" ".join)
def test_what_was_composed_before_equals_what_is_composed_anew(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    def composed() -> DictConfig:
        return loader.load_configuration("config", [*overrides, "batch=2"], RunMode.RUN)

    monkeypatch.setattr("src.app.composing.merged._MERGED", {})
    anew = _outcome(composed)
    changed = composed()
    changed.batch, changed.quant.name = 3, "changed"
    with open_dict(changed):
        changed.quant.config.x = 1
    assert _outcome(composed) == anew


@pytest.mark.parametrize("overrides", CHOICES[1:], ids=" ".join)
def test_files_merged_in_parts_are_what_hydra_merges_at_once(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    """Node by node: types, flags and whose child each is; the first part is what another scheme left."""

    def composed(*more: str) -> object:
        return _nodes(loader.load_configuration("config", [*overrides, *more], RunMode.RUN), None)

    monkeypatch.setattr("src.app.composing.merged._MERGED", {})
    composed("layers=large")
    in_parts = composed()
    monkeypatch.setattr("src.app.composing.merged._MERGED", {})
    monkeypatch.setattr("src.app.composing.loader.start_of_last_part", lambda _: 0)
    assert composed() == in_parts


def test_options_found_by_a_search_path_are_known(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "mine.yaml").write_text("name: mine\n")
    master = [f"hydra.searchpath=[file://{tmp_path}]"]
    config = loader.load_configuration("config", master, RunMode.MULTIRUN)
    assert loader.load_sweep_config(config, ["quant=mine", "batch=2"]).quant.name == "mine"


@pytest.mark.parametrize(
    ("overrides", "both"),
    [([], "a_c"), (["first=b"], "b_c"), (["both='${second}_${first}'"], "c_a")],
    ids=str,
)
def test_a_default_may_name_choices(tmp_path: Path, overrides: list[str], both: str) -> None:
    names = {"first": ("a", "b"), "second": ("c",), "both": ("a_c", "b_c", "c_a")}
    for place in [f"{group}/{name}" for group, options in names.items() for name in options]:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / f"{place}.yaml").write_text(f"is: {place}")
    (tmp_path / "config.yaml").write_text(
        "defaults: [first: a, second: c, both: '${first}_${second}', _self_]"
    )
    version.setbase("1.3")
    path = create_config_search_path(str(tmp_path))
    ours = Loader(path).load_configuration("config", overrides, RunMode.RUN)
    with _hydras_own_choices():
        plain = ConfigLoaderImpl(path).load_configuration("config", overrides, RunMode.RUN)
    assert ours.hydra.runtime.choices == plain.hydra.runtime.choices
    assert ours.both["is"] == plain.both["is"] == f"both/{both}"


def test_a_file_is_read_again_once_it_is_another(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "quant").mkdir()
    mine = tmp_path / "quant" / "mine.yaml"
    overrides = [f"hydra.searchpath=[file://{tmp_path}]", "quant=mine"]
    for name in ("one", "another"):
        mine.write_text(f"name: {name}\n")
        for _ in range(2):
            assert loader.load_configuration("config", overrides, RunMode.RUN).quant.name == name
    mine.write_text("name: [\n")
    with pytest.raises(YAMLError):
        loader.load_configuration("config", overrides, RunMode.RUN)


def test_jobs_do_not_share_their_values(loader: Loader) -> None:
    config = loader.load_configuration("config", [], RunMode.MULTIRUN)
    first, second = (loader.load_sweep_config(config, [f"+model.dims.x={x}"]) for x in (1, 2))
    assert (first.model.dims.x, second.model.dims.x) == (1, 2)


def test_a_checked_job_is_handed_out_without_being_composed_again(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = loader.load_configuration("config", ["hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
    jobs = [["quant=int8wo", "batch=2"], ["+model.dims.x=1"], ["batch=3"]]
    fresh = [validate(loader.load_sweep_config(master, job)) for job in jobs]
    for job in jobs[:2]:
        check_job(loader, master, job, {})
    composed: list[list[str]] = []
    original = loader.load_sweep_config

    def load(config: DictConfig, overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return original(config, overrides)

    monkeypatch.setattr(loader, "load_sweep_config", load)
    assert list(checked_jobs(loader, master, jobs)) == fresh
    assert composed == [["batch=3"]]
    assert not loader.checked  # ten thousand do not stay in memory


def _nodes(node: Node, parent: Node | None) -> object:
    """All of a configuration; an error where a node is no child of the one that holds it."""
    assert node._get_parent() is parent
    flags = {name: value for name, value in (node._metadata.flags or {}).items() if value is not None}
    known = vars(node._metadata) | {"flags": flags, "resolver_cache": "when `now` was"}
    content = node._value()
    if isinstance(node, DictConfig) and isinstance(content, dict):
        return known, [(key, _nodes(child, node)) for key, child in content.items()]
    if isinstance(node, ListConfig) and isinstance(content, list):
        return known, [_nodes(child, node) for child in content]
    return type(node), known, content


@contextmanager
def _hydras_own_choices() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults_list, "_create_interpolation_map", choices.hydras_own)
        yield


def _outcome(compose: object) -> object:
    """Everything about the composed configuration, or the error's type and text."""
    try:
        config = compose()  # type: ignore[operator]
    except Exception as error:
        return type(error), str(error)
    assert isinstance(config, DictConfig)
    return (
        OmegaConf.to_container(config, resolve=False),
        OmegaConf.get_type(config),
        OmegaConf.get_type(config.quant),
        OmegaConf.is_struct(config),
        OmegaConf.is_struct(config.model.dims),
    )
