"""Checks an app's log against what stepfold promises, from the log alone.

Nothing here shares a line with the engine's `decide` and `evolve`: what a run may and
must show in the log is said a second time, in other words, so that a mistake in the
one is seen by the other. Shared are the codec, the ids and the event classes.

One record's way: `reading` → `succession` (does it count?) → `rules` (is it allowed?)
→ `memory` (what the log has said so far) → `report`.
"""
