"""What tells runs of one scheme on one workload apart: the options of the treatment in which they differ."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.analysis.runs.tracked.sizes import SIZES, come_to_the_same
from src.config.schema.steps import NO_OPTIMIZER, USUAL_OPTIMIZER
from src.records.mlflow.options import is_prose

_OF_STEPS = ("training.optimizer.", "training.lora.")
_TREATED_BY = ("quant.", "compile.", "recipe.", "model.", *_OF_STEPS)  # what can tell two treatments apart
_FREE = ("quant.config.", "compile.options.", "recipe.", "model.factory.", *_OF_STEPS)
_FOLLOWS = ("quant.requires.", "quant.per_device.")  # may be put in terms of other options
_NOT_A_VARIANT = (".name", ".description", "._target_", ".dims.M", ".dims.K", ".dims.N")
_COMPILED = "compile."
_LAYERS = "quant.layers."  # the rules for layers, and the name of their preset
_PRESET = _LAYERS + "name"
_WEIGHTS = "model.weights."
CACHE = "measure.cache"
UNKNOWN = "options unknown"
WARM = "cache=warm"  # of a single Linear, in its variant
_NO_TREATMENT = (_WEIGHTS, CACHE)
_TARGET = _LAYERS + "sensitive.min_sqnr_db"  # of a preset that chooses by it
_NAMES = {NO_OPTIMIZER: "none"}  # of values, where they are no words
_USUAL = {  # what is another is told where all runs of a scheme have it in common, too
    _PRESET: "all",  # conf/layers
    "training.optimizer._target_": USUAL_OPTIMIZER,
    "training.lora.rank": "0",
}


def may_tell(name: str) -> bool:
    """Whether an option may tell two treatments apart."""
    telling = name.startswith(_TREATED_BY) and not name.endswith(_NOT_A_VARIANT) and not is_prose(name)
    return telling or name in _USUAL


def is_same_treatment(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Whether no option is another one on the other side.

    One that only one side has comes of another version of the schema. Weights from another place take as long, and
    with other caches a treatment is the same.
    """
    known = ((first.get(name, usual), second.get(name, usual)) for name, usual in _USUAL.items())
    both = [name for name in first if name in second and not name.startswith(_NO_TREATMENT)]
    return all(one == other for one, other in known) and not any(
        _differ(name, (first, second)) for name in both
    )


def of_both_arms(frame: pd.DataFrame) -> npt.NDArray[np.object_]:
    """How both arms of each row are compiled, as JSON: the options of its compile mode."""
    codes, texts = pd.factorize(frame["options"])
    kept = [
        json.dumps({n: v for n, v in json.loads(text).items() if n.startswith(_COMPILED)}) for text in texts
    ]
    return np.array(kept, dtype=object)[codes]


def models_of(frame: pd.DataFrame, cell: Sequence[str]) -> npt.NDArray[np.object_]:
    """What of the model differs among the rows that agree in the columns of `cell`: ``factory.num_layers=2``."""
    return variants_of(frame, cell, _of_model)


def _of_model(name: str) -> bool:
    """Whether an option makes another model of one name; weights from another place take as long."""
    return name.startswith("model.") and not name.startswith(_WEIGHTS) and may_tell(name)


def variants_of(
    frame: pd.DataFrame, cell: Sequence[str], counts: Callable[[str], bool] = lambda name: True
) -> npt.NDArray[np.object_]:
    """`variants` of a frame with a column ``options`` (JSON), among the rows that agree in the columns of `cell`.

    A row without any option is of a record that was kept without its ``config.yaml``: beside others it says so.

    Args:
        counts: whether an option is looked at.
    """
    groups = frame.groupby([*cell], dropna=False, sort=False).ngroup().to_numpy()
    codes, texts = pd.factorize(frame["options"])
    known = [json.loads(text) for text in texts]
    parsed = [{name: value for name, value in given.items() if counts(name)} for given in known]
    unusual = np.array([bool(_unusual(given)) for given in parsed], dtype=bool)
    first, last = (np.full(len(frame), end) for end in (len(texts), -1))  # code of a group
    np.minimum.at(first, groups, codes)
    np.maximum.at(last, groups, codes)
    telling = np.flatnonzero((first[groups] < last[groups]) | unusual[codes])  # few of very many
    places = [*zip(telling.tolist(), groups[telling].tolist(), codes[telling].tolist(), strict=True)]
    members: dict[int, set[int]] = defaultdict(set)
    for _, group, code in places:
        members[group].add(code)
    told: dict[tuple[int, ...], dict[int, str]] = {}
    for key in {tuple(sorted(several)) for several in members.values()}:
        of_known = [code for code in key if known[code]]
        found_of = variants([{"params": parsed[code]} for code in of_known], [])
        told[key] = dict.fromkeys(key, UNKNOWN) | dict(zip(of_known, found_of, strict=True))
    by_group = {group: told[tuple(sorted(several))] for group, several in members.items()}
    found = np.full(len(frame), "", dtype=object)
    for place, group, code in places:
        found[place] = by_group[group][code]
    return found


def with_caches(frame: pd.DataFrame) -> "pd.Series[str]":
    """The variant of a single Linear that was measured with warm caches says so: usually they are cold."""
    warm = (frame["cache"] == "warm") & frame["M"].notna() & (frame["task"] != "training")
    told = frame["variant"] + np.where(frame["variant"] == "", "", ", ") + WARM
    return frame["variant"].where(~warm, told)


def variants(rows: Sequence[dict[str, Any]], axes: Sequence[str]) -> list[str]:
    """Per row, the treatment's parameters by which it differs from others with the same axes.

    That only some of the layers were quantized, what stepped the weights instead of AdamW and that only adapters were
    trained is told where all runs of a scheme have it in common, too.
    """
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[tuple(row.get(name) for name in axes)].append(index)
    found = [""] * len(rows)
    for members in groups.values():
        params = [rows[index]["params"] for index in members]
        telling = _by_preset(_leading(differing(params), params), params)
        telling += [name for name in _unusual(params[0]) if not _is_told(name, telling)]
        for index, given in zip(members, params, strict=True):
            told = (
                f"{short(name)}={_NAMES.get(value := given.get(name, 'default'), value)}" for name in telling
            )
            found[index] = ", ".join(dict.fromkeys(told))  # an option may be an argument of the config too
    return found


def differing(params: Sequence[dict[str, str]]) -> list[str]:
    """The options in which some treatments differ."""
    return [name for name in _options(params) if _differ(name, params)]


def _differ(name: str, params: Sequence[Mapping[str, str]]) -> bool:
    """Whether an option was not the same; a size in terms of others may be put in other words (`side / 2`)."""
    if len({given.get(name, "") for given in params}) == 1:
        return False
    return not (name.startswith(SIZES) and come_to_the_same(name, params))


def _options(params: Sequence[dict[str, str]]) -> list[str]:
    """Parameters to compare: those that all runs have, and what can be added to a configuration freely.

    One that only some have otherwise comes of another version of the schema.
    """
    names = {
        n for given in params for n in given if n.startswith(_FREE) or all(n in other for other in params)
    }
    return sorted(name for name in names if may_tell(name) and name != _PRESET)


def _leading(differing: Sequence[str], params: Sequence[dict[str, str]]) -> list[str]:
    """Without those that are what another one that is told is, in all runs."""
    told = {tuple(p.get(name, "") for p in params) for name in differing if not name.startswith(_FOLLOWS)}
    follows = {name for name in differing if name.startswith(_FOLLOWS)}
    return [
        name
        for name in differing
        if name not in follows or tuple(p.get(name, "") for p in params) not in told
    ]


def _unusual(given: dict[str, str]) -> list[str]:
    return [name for name, usual in _USUAL.items() if given.get(name, usual) != usual]


def _is_told(name: str, differing: Sequence[str]) -> bool:
    """Whether an option is among others, or the rules are that the preset stands for."""
    return name in differing or (name == _PRESET and any(each.startswith(_LAYERS) for each in differing))


def _by_preset(differing: list[str], params: Sequence[dict[str, str]]) -> list[str]:
    """The rules for layers in one word, their preset's name, where that tells the runs apart just as well."""
    rules = [name for name in differing if name.startswith(_LAYERS)]
    settings = {tuple(given.get(name, "") for name in [_PRESET, *rules]) for given in params}
    if not rules or len(settings) > len({preset for preset, *_ in settings}):
        return differing if _TARGET not in rules else _with_target(differing, params)
    return [*(name for name in differing if name not in rules), _PRESET]


def _with_target(differing: list[str], params: Sequence[dict[str, str]]) -> list[str]:
    """The target beside the preset, where runs of one differ in nothing else."""
    without = [{name: value for name, value in given.items() if name != _TARGET} for given in params]
    named = _by_preset([name for name in differing if name != _TARGET], without)
    return [*named, _TARGET] if _PRESET in named else differing


def short(name: str) -> str:
    """An option as a variant has it: `group_size` of ``quant.config.group_size``."""
    return name.split(".", 1)[1].removeprefix("config.").removesuffix(".name").removesuffix("._target_")
