"""What a user demands, from the names in the model to the layers and maps that are planned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from spm_opt.constraints import Constraints, contradiction, groups_of
from spm_opt.errors import InputError
from spm_opt.graph.names import Names
from spm_opt.graph.network import Network

Item = TypeVar("Item")


def demands(
    source: Network,
    planned: Network,
    *,
    pin: Iterable[str] = (),
    no_pin: Iterable[str] = (),
    fuse: Iterable[str | Iterable[str]] = (),
    no_fuse: Iterable[str | Iterable[str]] = (),
    order: Iterable[str] = (),
) -> Constraints:
    """Demands on the plan of a network, in the names that it has there.

    Layers that normalisation folds into one run together whatever is demanded.

    Parameters
    ----------
    source, planned : Network
        As the user gave it, and normalised.
    pin, no_pin : iterable of str
        Feature maps.
    fuse, no_fuse : iterable of iterable of str
        Groups of layers; a text is one group, names apart by commas.
    order : iterable of str
        Every layer.

    Raises
    ------
    InputError
        If a name is unknown, or demands contradict each other or the network.
    """
    names = Names(source, planned)
    listed = tuple(_listed(order))
    found = Constraints(
        pin=_once(_pinned(planned, names.tensor(name, "--pin"), name) for name in _listed(pin)),
        no_pin=_once(names.tensor(name, "--no-pin") for name in _listed(no_pin)),
        fuse=tuple(
            group
            for group in (_layers(names, given, "--fuse") for given in groups_of(_listed(fuse)))
            if len(group) > 1
        ),
        no_fuse=tuple(_apart(names, given) for given in groups_of(_listed(no_fuse))),
        order=names.order(listed, "--order") if listed else (),
    )
    _require_escape(planned, found)
    return found


def _listed(given: Iterable[Item]) -> Iterable[Item]:
    """A single text as a list of it."""
    return (given,) if isinstance(given, str) else given  # type: ignore[return-value]


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _layers(names: Names, given: tuple[str, ...], option: str) -> tuple[str, ...]:
    if len(set(given)) < 2:
        raise InputError(
            "name at least two layers", field=option, found=",".join(given),
            allowed="A,B or A,B,C ...",
        )  # fmt: skip
    return _once(names.layer(name, option) for name in given)


def _apart(names: Names, given: tuple[str, ...]) -> tuple[str, ...]:
    found = _layers(names, given, "--no-fuse")
    if len(found) < len(set(given)):
        raise InputError(
            f"some of these layers are folded into one, {found[0]!r}, and always run together",
            field="--no-fuse", found=",".join(given),
        )  # fmt: skip
    return found


def _pinned(network: Network, tensor: str, given: str) -> str:
    if not network.readers[tensor]:
        raise InputError("no layer reads this map: keeping it is no use", field="--pin",
                         found=given)  # fmt: skip
    return tensor


def _require_escape(network: Network, found: Constraints) -> None:
    """Raise where a map to be pinned never leaves the group that is demanded."""
    for tensor in found.pin:
        maker = network.producer.get(tensor)
        readers = {network.layers[reader].name for reader in network.readers[tensor]}
        if maker is None:
            continue
        around = {network.layers[maker].name} | readers
        for layers, given in found.together():
            if around <= layers:
                fused = " and ".join(f"--fuse {','.join(group)}" for group in given)
                raise contradiction(f"--pin {tensor}", f"{fused}: the map never leaves that group")
