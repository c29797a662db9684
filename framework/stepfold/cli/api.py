"""The HTTP API as the command line asks it: blocking, JSON in and out.

A problem document becomes the error of the same meaning, so that the exit codes are
the ones of commands that speak to Kafka.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, cast

from stepfold.cli.exits import UsageError
from stepfold.core.errors import (
    ConfigurationError,
    ConflictError,
    KafkaError,
    NotFoundError,
    StepfoldError,
)

TIMEOUT_S = 70.0
"""Above the longest wait that `?after=` may ask for."""

_ERRORS: dict[int, type[StepfoldError]] = {
    400: UsageError,
    404: NotFoundError,
    409: ConflictError,
    422: UsageError,
    503: KafkaError,
}


class Api:
    """address: http://HOST:PORT of `stepfold projections`."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"the HTTP API's address is {address!r}, and must be http://HOST:PORT; it is "
                "named by --api, STEPFOLD_API or the setting api"
            )
        self.address = address.rstrip("/")
        # The projection is on this machine or in the cluster: no proxy stands before it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, query: Mapping[str, object] | None = None) -> dict[str, Any]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        tail = f"?{urllib.parse.urlencode(given, doseq=True)}" if given else ""
        return self._ask(urllib.request.Request(f"{self.address}{path}{tail}"))

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        return self._ask(
            urllib.request.Request(
                f"{self.address}{path}",
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
                method="POST",
            )
        )

    def _ask(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return cast("dict[str, Any]", json.load(answer))
        except urllib.error.HTTPError as error:
            raise _error_of(error) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            raise KafkaError(
                f"the HTTP API at {self.address} does not answer ({why}); start it with "
                "`stepfold projections`, or name it with --api or STEPFOLD_API"
            ) from None


def _error_of(error: urllib.error.HTTPError) -> StepfoldError | TimeoutError:
    try:
        detail = str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{error.url} answered {error.code} {error.reason}; is it a stepfold API?"
    if error.code == 504:
        return TimeoutError(detail)
    return _ERRORS.get(error.code, StepfoldError)(detail)


def run_path(run_id: str, *more: str) -> str:
    return "/".join(["/api/v1/runs", urllib.parse.quote(run_id, safe=""), *more])
