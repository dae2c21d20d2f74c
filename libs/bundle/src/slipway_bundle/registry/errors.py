"""The errors of registries; the rest of the tree is in `slipway_bundle/errors.py`.

It decides nothing. The invariant is that of the root: a stable code, an exit status by family, and a message that says
what happened, got, expected, where.

    UsageError
    ├── RemoteInvalidError          remote_invalid          a remote reference that breaks the grammar
    ├── RemoteNotFoundError         remote_not_found        nothing there under that tag or digest
    └── TagTakenError               tag_taken               the tag means another digest
    IntegrityError
    └── TamperedError               registry_tampered       what arrived is not what was asked for
    HostError
    └── RegistryError               registry                the network or the registry failed, after every retry
        └── RegistryRefusedError    registry_refused        the registry does not let us in
"""

from slipway_bundle.errors import HostError, IntegrityError, UsageError


class RemoteInvalidError(UsageError):
    """A remote reference breaks the grammar."""

    code = "remote_invalid"


class RemoteNotFoundError(UsageError):
    """The registry answers, and has no such repository, tag or digest."""

    code = "remote_not_found"


class TagTakenError(UsageError):
    """The tag is there and means another digest."""

    code = "tag_taken"


class TamperedError(IntegrityError):
    """Bytes from a registry that are not what their digest, size or type says."""

    code = "registry_tampered"


class RegistryError(HostError):
    """The network or the registry failed, and went on failing for as long as was worth trying."""

    code = "registry"


class RegistryRefusedError(RegistryError):
    """The registry wants other credentials, or none of ours may do this."""

    code = "registry_refused"
