"""Finds an app by its "module:attribute" name, with an error that says what is missing."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType

from stepfold.core.errors import ConfigurationError
from stepfold.sdk.app import App
from stepfold.sdk.failures import failure_of

PACKAGE = str(Path(__file__).parents[1])


def load_app(target: str) -> App:
    """Import the module (from the working directory, too). Raises ConfigurationError."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(
            f"not an app: {target!r}; write MODULE:APP, such as agents.research:app"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _imported(module_name, here)
    app = getattr(module, attribute, None)
    if app is None:
        apps = [name for name, value in vars(module).items() if isinstance(value, App)]
        raise ConfigurationError(
            f"module {module_name!r} has no {attribute!r}; its apps: {', '.join(apps) or 'none'}"
        )
    if not isinstance(app, App):
        raise ConfigurationError(f"{target} is a {type(app).__name__}, not a stepfold.App")
    return app


def _imported(module_name: str, here: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"there is no module {module_name!r} (looked in {here} and the Python path)"
            ) from error
        raise _broken(module_name, error) from error
    except ConfigurationError as error:
        error.args = (f"{error} ({_place(error)})",)  # its kind says more than a wrapper's
        raise
    except (Exception, SystemExit) as error:
        raise _broken(module_name, error) from error


def _broken(module_name: str, error: BaseException) -> ConfigurationError:
    failure = failure_of(error)
    return ConfigurationError(
        f"module {module_name!r} does not import: {failure.error_type}: {failure.message} "
        f"({_place(error)})"
    )


def _place(error: BaseException) -> str:
    """The innermost line that is the user's: inside of stepfold it would not help."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not _is_ours(frame.filename)]
    place = (users or frames)[-1]
    return f"{place.filename}:{place.lineno}"


def _is_ours(filename: str) -> bool:
    return filename.startswith((PACKAGE, "<"))  # <frozen importlib>, a dataclass's <string>
