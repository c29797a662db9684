"""Commands that are described and not built: who asks for one is told what to do instead."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

MISSING = {
    "dev": "run `stepfold kafka start`, `stepfold worker` and `stepfold projections`",
    "dlq": "read the topic APP.inbox.dlq with any Kafka tool: the reasons are in the headers",
    "doctor": "see /readyz of `stepfold projections`, and `stepfold config show --origin`",
    "runs replay": "`stepfold runs show RUN --json` has the input to start a new run with",
    "runs fork": "`stepfold runs show RUN --json` has the input to start a new run with",
}


class GroupWithMissing(TyperGroup):
    """A group that knows of the commands in MISSING."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        path = " ".join([*ctx.command_path.split()[1:], args[0]])
        if path in MISSING and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"{path!r} is not in this version of stepfold. Instead, {MISSING[path]}.")
        return super().resolve_command(ctx, args)
