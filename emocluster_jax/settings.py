"""Dataclasses of settings as data: the name, type, range and users of each setting, and its way to JSON and back.

Options of commands, checks of what is given, files of settings and tables of them are all made of `settings_of`. The
module imports nothing but the standard library.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range, alternatives, number_kind, shown

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a dataclass of settings."""

    name: str  # by which Python users know it
    option: str | None  # its name in commands, without dashes; None where they have no such option
    type: Any  # its annotation
    default: Any  # `dataclasses.MISSING` where it has none, or a factory makes it
    required: bool
    range: Range[Any] | None  # the numbers that it may have; None where it holds none
    systems: tuple[str, ...] | None  # those that use it; None for all
    parts: tuple[Setting, ...]  # the settings inside, where it is a dataclass itself


@functools.cache
def settings_of(cls: type[Any], systems: tuple[str, ...] | None = None) -> tuple[Setting, ...]:
    """The settings of a dataclass, one per field.

    A field's metadata may have an `option` (its name in commands, if it is another one; None for no option), `systems`
    (by default those that use the whole dataclass) and a `range` (`ranges.within`).
    """
    hints, found = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        hint, users = hints[field.name], field.metadata.get("systems", systems)
        found.append(
            Setting(
                name=field.name,
                option=field.metadata.get("option", field.name.replace("_", "-")),
                type=hint,
                default=field.default,
                required=field.default is field.default_factory is dataclasses.MISSING,
                range=field.metadata.get("range"),
                systems=users,
                parts=settings_of(hint, users) if dataclasses.is_dataclass(hint) else (),
            )
        )
    return tuple(found)


def all_settings(cls: type[Any], systems: tuple[str, ...] | None = None) -> Iterator[Setting]:
    """As `settings_of`, with the settings of dataclasses inside in their place."""
    for setting in settings_of(cls, systems):
        yield from all_settings(setting.type, setting.systems) if setting.parts else (setting,)


def values_of(config: Any, settings: tuple[Setting, ...] | None = None) -> Iterator[tuple[Setting, Any]]:
    """Every setting of `config` with its value, those of dataclasses inside in their place."""
    for setting in settings_of(type(config)) if settings is None else settings:
        value = getattr(config, setting.name)
        yield from values_of(value, setting.parts) if setting.parts else ((setting, value),)


class Checked:
    """Base of dataclasses of settings: checks each value against its type and range.

    Sequences become tuples, and NumPy's numbers Python's. Numbers may be optional, elements of a tuple, values of a
    mapping, or an alternative to words.

    Raises:
      InputError: a value is of another type, not one of the words, or out of its range.
      TypeError: a field of numbers has no range of that kind.
    """

    def __post_init__(self) -> None:
        for setting in settings_of(type(self)):
            limits = setting.range
            if number_kind(setting.type) is not (limits and limits.kind):
                where = f"{type(self).__name__}.{setting.name}"
                raise TypeError(f"{where} is {setting.type}, but its metadata have the range {limits!r}")
            checked = _checked(getattr(self, setting.name), setting, f"`{setting.name}`")
            object.__setattr__(self, setting.name, checked)  # it may be frozen


def _checked(value: Any, setting: Setting, name: str) -> Any:
    limits, expected = setting.range, []
    for alternative in alternatives(setting.type):
        origin = typing.get_origin(alternative)
        if origin is Literal:
            words = typing.get_args(alternative)
            if isinstance(value, str) and value in words:
                return value
            expected += words
        elif origin is tuple:
            if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
                return tuple(value) if limits is None else tuple(limits.check(name, item) for item in value)
            expected.append("a list or tuple")
        elif origin is Mapping and limits is not None:
            if not isinstance(value, Mapping):
                raise InputError(f"{name} is {shown(value)}; expected numbers by name")
            return {key: limits.check(f"{name} of {key}", item) for key, item in value.items()}
        elif alternative in (int, float):
            pass
        elif alternative is Any or origin is not None or isinstance(value, alternative):  # generic types pass
            return value
        elif alternative is not types.NoneType:
            expected.append(alternative.__name__)
    if limits is not None:
        return limits.check(name, value)
    raise InputError(f"{name} is {shown(value)}; expected {'one of ' * (len(expected) > 1)}{', '.join(expected)}")


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """The dataclass of settings with other values, also of the dataclasses inside.

    Raises:
      InputError: there is no such setting.
    """
    own = {setting.name: setting for setting in settings_of(type(config))}
    known = dict.fromkeys([*own, *(setting.name for setting in all_settings(type(config)))])
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, cutoff=0.5)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"there are {', '.join(known)}"
            raise InputError(f"there is no setting {name!r}; {hint}")
    changes = {name: value for name, value in values.items() if name in own}
    for setting in own.values():
        inside = {part.name for part in setting.parts} & set(values)
        if inside:
            part = changes.get(setting.name, getattr(config, setting.name))
            changes[setting.name] = replaced(part, {name: values[name] for name in inside})
    return dataclasses.replace(typing.cast("Any", config), **changes)


def from_dict(cls: type[Config], values: Any, where: str) -> Config:
    """The dataclass `cls` from what `dataclasses.asdict` made of it; settings that are left out keep their defaults.

    Settings that earlier versions had, and their one value that means what is done now, are in `cls.RETIRED`, if any.

    Raises:
      InputError: `where` there is an unknown setting, a missing one, or a value of the wrong type or out of range.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected an object of settings, found {type(values).__name__}")
    settings = {setting.name: setting for setting in settings_of(cls)}
    retired = getattr(cls, "RETIRED", {}).items()
    values = {name: value for name, value in values.items() if (name, value) not in retired}
    if unknown := sorted(set(values) - set(settings)):
        raise InputError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(settings)}")
    if missing := sorted(s.name for s in settings.values() if s.required and s.name not in values):
        raise InputError(f"{where}: no setting {missing[0]!r}")
    checked = {name: as_type(settings[name].type, value, f"{where}: {name}") for name, value in values.items()}
    try:
        return cls(**checked)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def as_type(hint: Any, value: Any, where: str) -> Any:
    """A JSON value as the annotated type; raises InputError, which says `where`, for one of another type."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise InputError(f"{where} is {value!r}; expected one of {', '.join(map(str, typing.get_args(hint)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} is {value!r}; expected a list")
        return tuple(as_type(typing.get_args(hint)[0], item, where) for item in value)
    if len(types_ := alternatives(hint)) > 1:
        return None if value is None else as_type(next(t for t in types_ if t is not types.NoneType), value, where)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is float and type(value) is int and abs(value) < 1 << 1023:
        return float(value)
    if type(value) is not hint:
        raise InputError(f"{where} is {value!r}; expected {hint.__name__}")
    return value
