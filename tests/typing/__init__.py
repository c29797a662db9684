"""What type checkers are to see of the API; `make lint` checks it, nothing runs it."""
# ruff: noqa: A005 - the folder's name says what is in it; it is only ever tests.typing
