"""Tab completion in bash, for the installed commands and for `python -m src.run`, which Hydra's own does not do.

A shell learns it from `eval "$(quantpay -sc install=bash)"` or `eval "$(python -m src.run -sc install=bash)"`; on TAB
it asks `-sc query=bash` with the line so far in COMP_LINE, the program taken off.
"""

import os
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from src.config.schema.model import PIPELINE

_SCRIPT = """{function}() {{
    local line=${{COMP_LINE:0:COMP_POINT}} helper=("${{COMP_WORDS[0]}}") given=""
    if [[ -n "{module}" ]]; then
        [[ $line =~ ^[^\\ ]+\\ +-m\\ +(src\\.[a-z]+)\\  ]] || return 0
        helper+=(-m "${{BASH_REMATCH[1]}}")
        line=${{line#"${{BASH_REMATCH[0]}}"}}
    else
        line=${{line#*[[:space:]]}}
    fi
    local word=${{line##*[[:space:]]}}
    [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && given=${{word%=*}}=  # bash wants what follows its last break
    mapfile -t COMPREPLY < <(COMP_LINE=$line "${{helper[@]}}" -sc query=bash 2>/dev/null)
    COMPREPLY=("${{COMPREPLY[@]#"$given"}}")
}}
complete -o nospace -o bashdefault -o default -F {function} {command}"""


def install(prog: str, loader: ConfigLoader, config_name: str) -> str:
    """The bash code that makes TAB complete the command; `python -m src.x` is completed for every x."""
    command, *module = prog.split(maxsplit=1)
    return _SCRIPT.format(function=_function(command), command=command, module="".join(module))


def uninstall(prog: str, loader: ConfigLoader, config_name: str) -> str:
    """The bash code that takes it back."""
    command = prog.split()[0]
    return f"complete -r {command}; unset -f {_function(command)}"


def query(prog: str, loader: ConfigLoader, config_name: str) -> str:
    """What may stand in place of the last word of COMP_LINE, one per line."""
    line, _, word = os.environ.get("COMP_LINE", "").rpartition(" ")
    try:
        earlier = shlex.split(line)
    except ValueError:  # the word is inside quotation marks: a path
        return ""
    if word.startswith("-"):
        flags = [flag for action in get_args_parser()._actions for flag in action.option_strings]
        return "\n".join(flag for flag in flags if flag.startswith(word))
    overrides = [each for each in earlier if "=" in each and " " not in each]  # Hydra splits there again
    values, comma, last = word.rpartition(",")  # of a sweep, the value after the last comma is completed
    key = values.partition("=")[0]
    asked = f"{key}={last}" if comma else word
    found = [
        *_hydras(loader, config_name, overrides, asked),
        *_choices(loader, config_name, overrides, asked),
    ]
    fitting = sorted({each for each in found if each.startswith(asked)})
    return "\n".join(values + comma + each.removeprefix(f"{key}=") if comma else each for each in fitting)


def _function(command: str) -> str:
    return "_quantpay_" + "".join(letter if letter.isalnum() else "_" for letter in command)


def _hydras(loader: ConfigLoader, config_name: str, overrides: list[str], word: str) -> list[str]:
    """Groups, their options and keys; `-m` because earlier words may be sweeps.

    Hydra completes a group that holds another one, such as `quant`, without its equals sign.
    """
    found = BashCompletion(loader)._query(config_name, " ".join(["-m", *overrides, word]))
    bare = [each for each in found if each.replace("/", "").isidentifier()]
    return [*found, *(f"{each}=" for each in bare if loader.get_group_options(each))]


def _choices(loader: ConfigLoader, config_name: str, overrides: list[str], word: str) -> Iterator[str]:
    """The values that the schema lists for a key, and a model's targets."""
    key, equals, _ = word.partition("=")
    if not equals:
        return
    try:
        config = loader.load_configuration(config_name, overrides, RunMode.MULTIRUN)
    except HydraException:
        return
    parent, _, leaf = key.rpartition(".")
    kind: Any = OmegaConf.get_type(OmegaConf.select(config, parent) if parent else config)
    for field in fields(kind) if is_dataclass(kind) else ():
        if field.name == leaf:
            yield from (f"{key}={choice}" for choice in field.metadata.get("choices", ()))
    if key == "target":
        targets = [*(OmegaConf.select(config, "model.targets") or ())]
        targets += [PIPELINE] if OmegaConf.select(config, "model.pipeline._target_") else []
        yield from (f"target={target}" for target in targets)


COMMANDS = {
    "install=bash": install,
    "uninstall=bash": uninstall,
    "query=bash": query,
}  # other shells: Hydra's own
