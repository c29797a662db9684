"""What can go wrong between a payload and the place where its parts are kept.

    PayloadError                    a value cannot be stored or read back
    ├── PayloadDamagedError         what was read is not what was written
    ├── BlobMissingError            a document refers to a blob that is not there
    └── BlobStoreError              the place did not do what it was asked for
        ├── BlobUnavailableError    it may do it later: unreachable, too slow, overloaded
        └── BlobRefusedError        it will not until somebody changes something

The facts are attributes.
"""

from __future__ import annotations

from stepfold.core.errors import PayloadError


class PayloadDamagedError(PayloadError):
    """A blob or a document is not what was written.

    `name`, `expected` and `found` are the facts, and `place` where it was read.
    """

    def __init__(self, name: str, *, expected: str, found: str, place: str) -> None:
        super().__init__(
            f"{name} in {place} is damaged: expected {expected}, found {found}; "
            "upgrade this process if a later version wrote it, else put it back from a backup"
        )
        self.name = name
        self.expected = expected
        self.found = found
        self.place = place


class BlobMissingError(PayloadError):
    """A blob that a document refers to is not in the store."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(
            f"blob {name} is not in {place}; check that every worker has the same blob store, "
            "or put the blob back from a backup"
        )
        self.name = name
        self.place = place


class BlobStoreError(PayloadError):
    """The blob store did not do what it was asked for."""

    def __init__(self, action: str, place: str, reason: str, advice: str) -> None:
        super().__init__(f"cannot {action} in {place}: {reason}; {advice}")
        self.action = action
        self.place = place
        self.reason = reason


class BlobUnavailableError(BlobStoreError):
    """The store is unreachable, too slow or overloaded: the same call may succeed later."""

    def __init__(self, action: str, place: str, reason: str) -> None:
        super().__init__(
            action, place, reason, "check the network, the disk and the state of the blob store"
        )


class BlobRefusedError(BlobStoreError):
    """The store refuses: permissions, credentials, a name it does not take."""

    def __init__(self, action: str, place: str, reason: str) -> None:
        super().__init__(
            action, place, reason, "check that the bucket exists, and the credentials and options"
        )
