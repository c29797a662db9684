"""Whole workers under a virtual clock, on a log that breaks, driven by one seed.

The engine's own code runs unchanged; what is simulated is what surrounds it: time, the
log, the group, processes that crash, stop and slow down, and the people and tools outside.
docs/simulation.md says how to use it. `python -m tests.simulation SEED --trace` repeats a run.
"""
