"""All rules that are checked, collected from the modules beside this file."""

from __future__ import annotations

from stepfold.verify.rule import Rule
from stepfold.verify.rules import attempts, checkpoints, intake, outbox, ownership, runs, waits

MODULES = (ownership, intake, runs, attempts, waits, outbox, checkpoints)

RULES: tuple[Rule, ...] = tuple(
    each for module in MODULES for each in vars(module).values() if isinstance(each, Rule)
)
