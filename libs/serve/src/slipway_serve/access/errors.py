"""What can be wrong with the files of access; what callers are told when they are refused is in door.py.

UsageError
├── KeyFileError          access_keys_invalid    the file of API keys is none
├── KeyTakenError         access_key_taken       a new key would be another's: same name without `--rotate`
├── KeyNotFoundError      access_key_unknown     no key has that id or name
├── JwksError             access_jwks_invalid    the issuer's keys are none that can be used
└── TlsError              tls_invalid            certificate, private key or client CA cannot be used
HostError
├── KeyFileUnreadableError  access_keys_unreadable
├── JwksUnreachableError    access_jwks_unreachable  the issuer does not answer
└── QuotaFileError          access_state_unusable    the file of the day's counts cannot be used
"""

from slipway_bundle import HostError, UsageError


class KeyFileError(UsageError):
    """The file of API keys is not one."""

    code = "access_keys_invalid"


class KeyTakenError(UsageError):
    """A key by this name is there."""

    code = "access_key_taken"


class KeyNotFoundError(UsageError):
    """No key has this id or name."""

    code = "access_key_unknown"


class JwksError(UsageError):
    """What should be the public keys of an issuer is something else."""

    code = "access_jwks_invalid"


class TlsError(UsageError):
    """A server certificate, its private key or the client CA cannot be used."""

    code = "tls_invalid"


class KeyFileUnreadableError(HostError):
    """The file of API keys cannot be read or written."""

    code = "access_keys_unreadable"


class JwksUnreachableError(HostError):
    """The public keys of an issuer could not be fetched."""

    code = "access_jwks_unreachable"


class QuotaFileError(HostError):
    """The file of the day's counts cannot be opened, or is something else."""

    code = "access_state_unusable"
