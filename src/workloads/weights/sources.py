"""What a model is made of: the class or function that makes it, the folder or repository of its weights."""

from typing import Any

from hydra.utils import get_object
from torch import nn

from src.config.errors import ConfigError
from src.config.schema.model import ComponentConf, ModelConf

HYDRAS = frozenset(
    {"_target_", "_args_", "_convert_", "_partial_", "_recursive_"}
)  # beside a factory's arguments


def factory_of(conf: ModelConf | ComponentConf, where: str) -> Any:
    """The class or the function that makes a model.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    target = conf.factory.get("_target_")
    try:
        found = get_object(str(target))
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ConfigError(f"{where}.factory._target_={target}: cannot be imported: {said}") from error
    if not callable(found):
        raise ConfigError(f"{where}.factory._target_={target}: neither a class nor a function")
    return found


def pretrained_config(cls: Any, conf: ModelConf | ComponentConf, where: str) -> Any:
    """The configuration beside weights: of diffusers a mapping, of transformers an object.

    Raises:
        ConfigError: a class of another library, or no folder.
    """
    if hasattr(cls, "load_config"):  # diffusers
        return cls.load_config(conf.weights.place(), **_place(conf, where))
    if hasattr(cls, "config_class"):  # transformers
        return cls.config_class.from_pretrained(conf.weights.place(), **_place(conf, where))
    raise ConfigError(
        f"{where}.weights.source={conf.weights.source}: {cls.__name__} cannot be made from its config alone"
    )


def load_pretrained(
    conf: ModelConf | ComponentConf, cls: Any, dtype: Any, where: str, **loading: Any
) -> nn.Module:
    """What from_pretrained gives, by default on the host; `loading` are further arguments of it.

    Raises:
        ConfigError: the class has no from_pretrained, nothing says what to load, or there is no such folder.
    """
    weights = conf.weights
    if not hasattr(cls, "from_pretrained"):
        raise ConfigError(
            f"{where}.weights.source={weights.source}: {cls.__name__} has no from_pretrained; accepted: random"
        )
    if weights.id is None:
        raise ConfigError(f"{where}.weights.id=null: needed with {where}.weights.source={weights.source}")
    variant = {} if weights.variant is None else {"variant": weights.variant}
    given = _place(conf, where) | variant | weights.arguments | loading
    model = cls.from_pretrained(weights.place(), torch_dtype=dtype, **given)
    assert isinstance(model, nn.Module)
    return model.eval().requires_grad_(False)


def _place(conf: ModelConf | ComponentConf, where: str) -> dict[str, Any]:
    """Where from_pretrained finds what is given by its id; a folder is never asked of the hub.

    Raises:
        ConfigError: there is no such folder.
    """
    weights, folder = conf.weights, conf.weights.folder()
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"{where}.weights.id={weights.id}: no folder {folder}")
    given = {"subfolder": weights.subfolder, "revision": weights.revision}
    return {"local_files_only": weights.source != "hub"} | {k: v for k, v in given.items() if v is not None}
