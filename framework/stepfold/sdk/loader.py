"""Finds an app by its "module:attribute" name, with an error that says what is missing."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from stepfold.core.errors import ConfigurationError
from stepfold.sdk.app import App


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
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise ConfigurationError(
                f"there is no module {module_name!r} (looked in {here} and the Python path)"
            ) from error
        raise ConfigurationError(f"module {module_name!r} does not import: {error}") from error
    except ConfigurationError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigurationError(
            f"module {module_name!r} does not import: {type(error).__name__}: {error} "
            f"({place.filename}:{place.lineno})"
        ) from error
    app = getattr(module, attribute, None)
    if app is None:
        apps = [name for name, value in vars(module).items() if isinstance(value, App)]
        raise ConfigurationError(
            f"module {module_name!r} has no {attribute!r}; its apps: {', '.join(apps) or 'none'}"
        )
    if not isinstance(app, App):
        raise ConfigurationError(f"{target} is a {type(app).__name__}, not a stepfold.App")
    return app
