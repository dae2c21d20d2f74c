"""Whether a far model is the one that was declared: tensor by tensor, before the first row is sent.

It asks nothing over the network. The invariant: what passes can be called with the declaration's rows; every error
names the tensor, what it is there and what it should be.
"""

from collections.abc import Sequence
from typing import Final, Literal

from slipway_bundle import TensorSpec
from slipway_bundle.row_fields import DTYPES
from slipway_serve.far_end import Address, RemoteMismatch
from slipway_serve.protocol import TensorMetadata
from slipway_serve.tensors import shown

READABLE: Final = frozenset((*DTYPES, "BYTES"))
HINT: Final = "the far model is another one, or of another version; its metadata says what it takes and gives"


def compare_tensors(
    address: Address, role: Literal["input", "output"], ours: Sequence[TensorSpec], theirs: Sequence[TensorMetadata]
) -> None:
    """Compare the declaration with the metadata.

    An output that is there and not declared is left alone; an input is one that nobody would send.

    Raises:
        RemoteMismatch: a tensor is missing, has another datatype or shape, or is one too many.
    """
    known = {tensor.name: tensor for tensor in theirs}
    for spec in ours:
        tensor = known.pop(spec.name, None)
        if tensor is None:
            names = shown(tensor.name for tensor in theirs) or "none"
            raise RemoteMismatch(f"{address.url} has no {role} {spec.name!r}, expected one of {names}", hint=HINT)
        if tensor.datatype != spec.datatype or not _fits(spec.shape, tensor.shape, is_input=role == "input"):
            raise RemoteMismatch(
                f"{role} {spec.name!r} of {address.url} does not fit the declaration: "
                f"got {tensor.datatype} {list(tensor.shape)}, expected {spec.datatype} {[-1, *spec.shape]}",
                hint=HINT,
            )
    if known and role == "input":
        got = f"needs {role} {shown(known)}, expected only {shown(spec.name for spec in ours)}"
        raise RemoteMismatch(f"{address.url} {got}", hint=HINT)


def specs_of(address: Address, tensors: Sequence[TensorMetadata], ours: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The far tensors in the words of a codec, without the batch axis.

    Args:
        address: for messages.
        tensors: of the metadata.
        ours: says which BYTES are text.

    Raises:
        RemoteMismatch: a datatype that is not read here, or a tensor without an axis that counts rows.
    """
    text = {spec.name for spec in ours if spec.text or spec.values}
    specs: list[TensorSpec] = []
    for tensor in tensors:
        if tensor.datatype not in READABLE:
            got = f"datatype {tensor.datatype!r}, expected one of {', '.join(sorted(READABLE))}"
            raise RemoteMismatch(f"tensor {tensor.name!r} of {address.url} has {got}", hint=HINT)
        if not tensor.shape or tensor.shape[0] != -1:
            got = f"shape {list(tensor.shape)}, expected -1 first, which counts rows"
            raise RemoteMismatch(f"tensor {tensor.name!r} of {address.url} has {got}", hint="let it take batches there")
        specs.append(
            TensorSpec(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tuple(tensor.shape[1:]),
                nullable=tensor.datatype.startswith("FP"),
                text=tensor.name in text,
            )
        )
    return specs


def _fits(ours: tuple[int, ...], theirs: tuple[int, ...], *, is_input: bool) -> bool:
    """Axis by axis behind the rows; a size that is free here must be free there to be sent."""
    if theirs[:1] != (-1,):
        return False
    if not ours and len(theirs) == 2 and theirs[1] in {1, -1}:
        return True  # a scalar field may be a column there
    return len(ours) == len(theirs) - 1 and all(
        there in {here, -1} or (here == -1 and not is_input) for here, there in zip(ours, theirs[1:], strict=True)
    )
