"""Mistakes of the user's, and how Hydra's and OmegaConf's exceptions are told in one line."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from src.config.aliases import aliases, without_aliases
from src.config.nearest import nearest

# OmegaConf's words for a value of the wrong type, and ours.
_PHRASES = (
    (r"Value '(.*)' of type '.*' could not be converted to Integer", r"'\1' is not an integer"),
    (r"Value '(.*)' of type '.*' could not be converted to Float", r"'\1' is not a number"),
    (r"Value '(.*)' is not a valid bool.*", r"'\1' is neither true nor false"),
    (r"Cannot convert '.*' to string: '(.*)'", r"\1 is not text"),
    (r"Invalid value '(.*)', expected one of \[(.*)\]", r"'\1' is not accepted; accepted: \2"),
    (r"Invalid value assigned: .* is not a ListConfig, list or tuple.*", "a list is wanted: [a,b]"),
    (
        r"Invalid type assigned: .* is not a subclass of \w+. value: (.*)",
        r"\1 is not a set of keys: {key: value}",
    ),
    (
        r"Cannot (merge|assign) .*(ListConfig|DictConfig|list|dict).*",
        "keys and values are wanted: {key: value}",
    ),
    (r"field '.*' is not Optional", "null is not accepted"),
    (r"Interpolation key '(.*)' not found", r"${\1} names no key"),
)
# Names that follow a rule, which is said to whoever breaks it.
_NAMING = (
    (
        r"quant/fp\d+(_e\d+[mw]\d+)?",
        "in fpX_eAmB X = A + B + 1: A >= 1 bits of exponent, B of mantissa and the sign make X = 3 to 8",
    ),
    (r"quant/u?int\d+wo", "uintXwo has 1 to 7 bits; 8 are int8wo, and 4 with kernels of their own int4wo"),
)
# Hydra's words for what is wrong with the choice of options.
_CHOICES = (
    (
        r"In '(sweeps/.*)': Could not override '.*@sweeps\..*",
        r"\1: the first line must be '# @package _global_'",
    ),
    (
        r"(.*) appears more than once in the final defaults list|Multiple values for (.*)\. To override .*",
        r"\1\2: is chosen already; write \1\2=... without '+'",
    ),
    (
        r"Could not override '(.*)'\.\s+No match in the defaults list\..*",
        r"\1=...: this command has no such group (an analysis takes sweep=ID, and a run's axes with predict=model)",
    ),
    (r"Could not delete '?from config\. '(.*)' does not exist\.", r"~\1: there is no such key"),
    (r"Could not delete '(.*)'\. No match in the defaults list", r"~\1: that option is not chosen"),
    (
        r"Sweeping over Hydra's configuration is not supported : '(.*)'",
        r"\1: a sweep has one setting of Hydra's own; give a single value",
    ),
    (
        r"Ambiguous value for argument '(.*?)'.*|Sweep parameters '(.*)' requires --multirun",
        "\\1\\2: several values need --multirun (-m); one value with a comma is quoted: 'key=\"a,b\"'",
    ),
)


class ConfigError(ValueError):
    """A mistake on the command line or in a config.

    Its text is one line: the key, the value, what is accepted, the nearest match, what to do.
    """


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Hydra, OmegaConf and YAML raise over a wrong configuration into a `ConfigError`."""
    try:
        yield
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(explain(error)) from error


def explain(error: BaseException) -> str:
    """One line about a wrong configuration: the innermost exception that says something names the mistake."""
    if isinstance(error, RecursionError):
        return (
            "a configuration file: an anchor (&name) that holds itself (*name), or values nested without end"
        )
    subject, file = _override(error), re.match(r"In '(.*)': \w+ raised while composing", str(error))
    cause, seen = error.__context__ if file else error.__cause__, {error}
    while cause is not None and cause not in seen and isinstance(cause, tuple(_EXPLAIN)):
        if getattr(error, "full_key", None) and not getattr(cause, "full_key", True):
            break  # an inner one of OmegaConf's, which does not know its key yet: they stay under a debugger
        seen.add(cause)
        error, cause = cause, cause.__cause__
    tell = next((tell for kind, tell in _EXPLAIN.items() if isinstance(error, kind)), _anything)
    return one_line(tell(error, subject)) + (f" (in {file[1]})" if file else "")


def accepted(name: str, names: Iterable[object], unlisted: Container[object] = ()) -> str:
    """What may stand in place of `name`, the nearest match first; some may be nearest, but are not listed."""
    known = [str(each) for each in names]
    near = nearest(name, known)
    hint = f"did you mean {near[0]}?; " if near else ""
    return f"{hint}accepted: {', '.join(each for each in known if each not in unlisted) or 'nothing'}"


def lacking(key: str) -> str:
    """What to do about a key without a value."""
    group = key.removesuffix(".name")  # a group without an option may still hold what another group fills in
    group, known = (group, True) if group in _groups("") else (key, False)
    loader = GlobalHydra.instance().config_loader() if known else None
    options = without_aliases(group, loader.get_group_options(group), loader) if loader else []
    of_file = f", or `name: ...` in the file of {group} that was chosen" if group != key else ""
    return f"{key}: a value is missing; give {group}=...{of_file}{'; ' + accepted('', options) if options else ''}"


def several(problems: Sequence[str]) -> ConfigError:
    """The first of the distinct problems, and how many others there are."""
    distinct = list(dict.fromkeys(problems))
    more = f" (and {len(distinct) - 1} more)" if len(distinct) > 1 else ""
    return ConfigError(distinct[0] + more)


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())


def _override(error: BaseException) -> str:
    """The override that Hydra was applying, as the user wrote it; empty where it does not say."""
    found = re.search(r"Error merging override (.*)|use \+(.*)$", str(error))
    return (found[1] or found[2]) if found else ""


def _no_option(error: Any, _: str) -> str:
    if error.options is None:
        return str(error).split("\nConfig search path")[0]
    group, _, option = error.missing_cfg_file.rpartition("/")
    parent = re.match(r"In '([^']+/[^']+)'", str(error))
    where = f" (named in {parent[1]})" if parent and parent[1] != "hydra/config" else ""
    unlisted = aliases(group, GlobalHydra.instance().config_loader()) if _groups("") else {}
    rule = next((f"; {said}" for name, said in _NAMING if re.fullmatch(name, error.missing_cfg_file)), "")
    known, (head, _, folder) = error.options, group.partition("/")
    loader = GlobalHydra.instance().config_loader() if _groups("") else None
    inside = loader.get_group_options(group) if loader and folder and head != "hydra" else []
    if inside:  # a folder of a group's options
        group, option, known = head, f"{folder}/{option}", [f"{folder}/{name}" for name in inside]
    return f"{group}={option}: no such option{where}{rule}; {accepted(option, known, unlisted)}"


def _syntax(error: Any, _: str) -> str:
    detail = str(error.message).splitlines()[0]
    reason = "the value cannot be read" if "=" in error.override else "not of the form key=value"
    said = "" if error.override in detail else f" ({detail})"
    return f"{error.override}: {reason}{said}; write key=value, and quote special characters: 'key=\"a, b\"'"


def _unknown_key(error: Any, subject: str) -> str:
    parent, key = error.parent_node, error.full_key
    inside, _, leaf = key.rpartition(".")
    known = [str(each) for each in parent] if isinstance(parent, DictConfig) else []
    elsewhere = [path for path in _paths(parent) if path.endswith(f".{leaf}")]
    if elsewhere and not get_close_matches(leaf, known):
        return f"{subject or key}: unknown key {key}; did you mean {elsewhere[0]}?"
    within = f" in {inside}" if inside else ""
    names = known if inside else sorted({*known, *_groups("")})
    names = _groups("hydra") if key.startswith("hydra/") else names
    add = f"; to add it: +{subject}" if subject and "Dict[" in str(error) else ""
    return f"{subject or key}: unknown key {leaf}{within}; {accepted(leaf, names)}{add}"


def _missing(error: Any, _: str) -> str:
    return lacking(error.full_key or str(error).removeprefix("Missing mandatory value: "))


def _value(error: Any, subject: str) -> str:
    text = _reworded(str(error).split("\n    full_key")[0], _PHRASES)
    return f"{subject or error.full_key or 'the configuration'}: {text}"


def _yaml(error: Any, _: str) -> str:
    where = getattr(error, "problem_mark", None)
    place = f"{where.name}, line {where.line + 1}" if where else "a configuration file"
    return f"{place}: not YAML: {getattr(error, 'problem', None) or error}"


def _anything(error: BaseException, subject: str) -> str:
    text = re.split(r"\nConfig search path|\nSee https", str(error))[0].strip()
    shown = f"{subject}: " if subject and subject not in text else ""
    return f"{shown}{_reworded(text, _CHOICES) or type(error).__name__}"


def _reworded(text: str, phrases: Iterable[tuple[str, str]]) -> str:
    """The text as the first pattern that matches the whole of it says, else as it is."""
    for pattern, replacement in phrases:
        if match := re.fullmatch(pattern, text, flags=re.DOTALL):
            return match.expand(replacement)
    return text


def _groups(parent: str) -> list[str]:
    """The configuration groups that an override may name."""
    if not GlobalHydra.instance().is_initialized():
        return []
    names = GlobalHydra.instance().config_loader().list_groups(parent)
    return [f"{parent}/{name}".removeprefix("/") for name in names]


def _paths(node: Any) -> list[str]:
    """Dotted paths of everything in the configuration that the node belongs to, but for Hydra's own."""
    root = node._get_root() if node is not None else None

    def walk(value: Any, path: str) -> Iterator[str]:
        if not isinstance(value, DictConfig) or value._is_none() or value._is_missing():
            return
        for key in value:
            below = f"{path}.{key!s}".removeprefix(".")
            if below != "hydra":
                yield below
                yield from walk(value._get_node(key), below)

    return list(walk(root, ""))


_EXPLAIN: dict[type, Callable[[Any, str], str]] = {
    MissingConfigException: _no_option,
    OverrideParseException: _syntax,
    ConfigAttributeError: _unknown_key,
    ConfigKeyError: _unknown_key,
    MissingMandatoryValue: _missing,
    InterpolationResolutionError: _value,
    OmegaConfBaseException: _value,
    yaml.YAMLError: _yaml,
}
