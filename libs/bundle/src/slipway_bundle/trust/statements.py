"""In-toto statements: what is said, about which digest.

It verifies no signature: `dsse.py` does. The invariant: a predicate that is handed out is of the type that was asked
for, and about the one digest that was asked about; a genuine signature on another statement proves nothing here.
Source: https://github.com/in-toto/attestation/tree/main/spec/v1 (Statement, ResourceDescriptor).
"""

from typing import Any, TypeVar

from msgspec import Struct, convert, field
from msgspec import ValidationError as ShapeError

from slipway_bundle.canonical import canonical_json, decode_json
from slipway_bundle.digest import Digest, hex_of
from slipway_bundle.store_errors import JsonError
from slipway_bundle.trust.dsse import SignatureError

__all__ = ["Subject", "decode_predicate", "decode_statement", "make_statement", "predicate_type_of"]

T = TypeVar("T")

STATEMENT = "https://in-toto.io/Statement/v1"


class Subject(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a statement is about."""

    digest: dict[str, str]
    name: str = ""


class _Statement(Struct, frozen=True, kw_only=True, rename="camel"):
    kind: str = field(name="_type")
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Any] = {}


def make_statement(name: str, digest: Digest, *, predicate_type: str, predicate: object) -> bytes:
    """The statement's canonical JSON.

    Args:
        name: What the subject is called, for people; the digest decides.
        digest: Of the subject.
        predicate_type: A URI.
        predicate: What is said, a Struct or a mapping.
    """
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": hex_of(digest)}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def decode_statement(data: bytes, type_: type[T], *, predicate_type: str, subject: Digest) -> tuple[Subject, T]:
    """The subject and the predicate of a statement whose signature was verified.

    Args:
        data: The statement.
        type_: Of the predicate; unknown fields follow its own rule.
        predicate_type: What it must be.
        subject: What it must be about.

    Raises:
        SignatureError: It is no such statement, says something else, or is about something else.
    """
    found, predicate = decode_predicate(data, type_, predicate_type=predicate_type)
    if found.digest != {"sha256": hex_of(subject)}:
        got = ", ".join(f"{kind}:{value}" for kind, value in found.digest.items())
        raise SignatureError(
            f"the statement is about {got or 'nothing'}, expected {subject}", got=got, expected=subject
        )
    return found, predicate


def decode_predicate(data: bytes, type_: type[T], *, predicate_type: str) -> tuple[Subject, T]:
    """As `decode_statement`, whatever it is about: for predicates that say that in a way of their own."""
    statement = _decode(data)
    if statement.predicate_type != predicate_type:
        raise SignatureError(
            f"the statement is a {statement.predicate_type!r}, expected a {predicate_type!r}",
            got=statement.predicate_type,
            expected=predicate_type,
        )
    if len(statement.subject) != 1:
        raise SignatureError(f"the statement is about {len(statement.subject)} subjects, expected one")
    try:
        return statement.subject[0], convert(statement.predicate, type_)
    except ShapeError as error:
        raise SignatureError(f"the predicate of a {predicate_type!r} does not have its shape: {error}") from error


def predicate_type_of(data: bytes) -> str:
    """What kind of thing a statement says; raises SignatureError when it is no statement."""
    return _decode(data).predicate_type


def _decode(data: bytes) -> _Statement:
    try:
        statement = decode_json(data, _Statement, what="a statement")
    except JsonError as error:
        raise SignatureError(error.message) from error
    if statement.kind != STATEMENT:
        raise SignatureError(f"a statement is of the type {statement.kind!r}, expected {STATEMENT!r}")
    return statement
