"""The client: what programs use that start runs and ask about them."""

from __future__ import annotations

from stepfold.client.client import Client, Receipt, RunHandle

__all__ = ["Client", "Receipt", "RunHandle"]
