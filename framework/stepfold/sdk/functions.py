"""What an author's function is, under partials, decorators and bound methods."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from types import CodeType, FunctionType
from typing import Any, cast

from stepfold.core.errors import ConfigurationError


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that runs in the end: that of a partial, method, decorator or object."""
    if type(function) is FunctionType and "__wrapped__" not in function.__dict__:
        return function  # as nearly all are, and it is asked for at every call
    target: Any = function
    while isinstance(target, partial):
        target = target.func
    target = inspect.unwrap(target)
    if not inspect.isroutine(target) and not isinstance(target, type):
        target = type(target).__call__
    return cast("Callable[..., Any]", getattr(target, "__func__", target))


def place_of(function: object) -> str:
    """Where a function, or what `definition_of` gives for it, is written; for errors."""
    if callable(function):
        function = definition_of(function)
    if isinstance(function, CodeType):
        return f"{function.co_qualname} ({function.co_filename}:{function.co_firstlineno})"
    return getattr(function, "__qualname__", repr(function))


def definition_of(function: Callable[..., Any]) -> object:
    """The same for all functions that one piece of code defines, however often it runs."""
    target = underlying(function)
    return getattr(target, "__code__", target)


class UnresolvedError(ConfigurationError):
    """An annotation names what is not there when the program runs."""

    def __init__(self, function: Callable[..., Any], name: str, error: Exception) -> None:
        what = "the return annotation" if name == "return" else f"the annotation of {name!r}"
        super().__init__(
            f"{what} of {place_of(function)} does not resolve: {type(error).__name__}: {error}; "
            "import its types where the program runs (not below TYPE_CHECKING), or wrap the "
            "function in one with an annotation of your own"
        )


def return_type(function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Any:
    """What awaiting a call gives, by the annotation; Any when there is none."""
    target = underlying(function)
    if isinstance(target, type):
        return target
    annotation = annotation_of(target, "return", names)
    if typing.get_origin(annotation) in (Awaitable, Coroutine):
        annotation = typing.get_args(annotation)[-1]
    return Any if annotation in (typing.NoReturn, typing.Never) else annotation


def annotation_of(
    function: Callable[..., Any], name: str, names: Mapping[str, Any] | None = None
) -> Any:
    """One annotation, evaluated; Any when there is none. names: more than those of its module.

    Alone, because the others may name what only type checkers see. Raises UnresolvedError.
    """
    annotations = getattr(function, "__annotations__", {})
    if name not in annotations:
        return Any
    holder = type("annotated", (), {"__annotations__": {name: annotations[name]}})
    known = {**getattr(function, "__globals__", {}), **(names or {})}
    try:
        return typing.get_type_hints(holder, globalns=known, include_extras=True)[name]
    except Exception as error:
        raise UnresolvedError(function, name, error) from error


def check_runs_once(function: object, what: str) -> None:
    """Raises ConfigurationError for what is called in vain, or gives more than one value."""
    if not callable(function):
        if inspect.iscoroutine(function):
            function.close()
            raise ConfigurationError(
                f"{what} was given a coroutine; give it the function and its arguments instead: "
                "step.run(name, function, argument, ...)"
            )
        raise ConfigurationError(f"{what} needs a function, got a {type(function).__name__}")
    target = underlying(function)
    if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        raise ConfigurationError(
            f"{what} yields, and a step has one result: let {place_of(function)} return a list"
        )


def callers_names() -> Mapping[str, Any]:
    """The local names of whoever called our caller: in tests, types are often local."""
    frame = inspect.currentframe()
    for _ in range(2):
        frame = frame.f_back if frame is not None else None
    return {} if frame is None else frame.f_locals
