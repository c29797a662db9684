"""The protocol as small state machines, searched without gap.

Each machine drives the engine's own rules (the fold, the proof of the writer, the decisions)
through every order of events that its environment allows. docs/model.md says what is covered.
"""
