"""Names as a user wrote them, and the layers and maps of the planned network that they mean.

Normalisation folds layers into others and drops views, so a name of the model file may be one of
a layer or map that the plan does not have by itself. Nothing here knows what names are used for.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from spm_opt.errors import InputError
from spm_opt.graph.network import Network

_SUGGESTIONS = 3


class Names:
    """Resolves names of one network.

    Parameters
    ----------
    source : Network
        As the user gave it.
    planned : Network
        What `spm_opt.graph.normalize.normalize` made of it.
    """

    def __init__(self, source: Network, planned: Network) -> None:
        self._source, self._planned = source, planned
        self._host = {layer.name: layer for layer in planned.layers}
        for layer in planned.layers:
            self._host |= {name: layer for name in layer.folded if name not in self._host}
        self._written = {layer.name: layer for layer in source.layers}
        #: views that whoever built the network dropped already
        self._views = {*source.aliases, *planned.aliases}

    def layer(self, name: str, option: str) -> str:
        """The layer that `name` runs as: itself, or the one that it is folded into.

        Raises
        ------
        InputError
            If there is no such layer, or it does not run.
        """
        if name in self._host:
            return self._host[name].name
        if name in self._written or name in self._views:
            raise InputError(
                "this layer does not run: it moves no data, or leads to no output",
                field=option, found=name,
            )  # fmt: skip
        raise _unknown("layer", name, option, (*self._written, *self._host))

    def tensor(self, name: str, option: str) -> str:
        """The feature map that holds tensor `name`, or what the layer `name` writes.

        Raises
        ------
        InputError
            If there is no such tensor, or no map of the plan holds it.
        """
        known = {**self._source.tensors, **self._planned.tensors}
        wanted = name
        if name not in known and name not in self._source.aliases:
            if name not in self._host and name not in self._written:
                raise _unknown("feature map", name, option, known)
            wanted = (self._written.get(name) or self._host[name]).output
        found = self._held(wanted)
        if found is None:
            raise InputError("no map of the plan holds this tensor", field=option, found=name)
        return found

    def _held(self, tensor: str) -> str | None:
        """Map of the planned network that holds a tensor of the source."""
        while tensor not in self._planned.tensors:
            alias = self._planned.aliases.get(tensor, self._source.aliases.get(tensor))
            maker = self._source.producer.get(tensor)
            if alias is not None and alias != tensor:
                tensor = alias
            elif maker is None:
                return None
            else:
                layer = self._source.layers[maker]
                host = self._host.get(layer.name)
                if host is not None:
                    return host.output
                if len(layer.inputs) != 1:
                    return None
                tensor = layer.inputs[0].tensor
        return tensor

    def order(self, names: Iterable[str], option: str) -> tuple[str, ...]:
        """A topological order of the planned layers, out of one of the source's.

        A folded layer stands where its host is named, and anywhere behind; layers that do not run
        are passed over.

        Raises
        ------
        InputError
            If a name is unknown or comes twice, a layer is missing, or a layer comes before one
            whose output it reads: the first such pair is named.
        """
        found: dict[str, None] = {}
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise InputError("this layer comes twice", field=option, found=name)
            seen.add(name)
            if name in self._host:
                found.setdefault(self._host[name].name)
            elif name not in self._written and name not in self._views:
                raise _unknown("layer", name, option, (*self._written, *self._host))
        missing = [layer.name for layer in self._planned.layers if layer.name not in found]
        if missing:
            shown = ", ".join(missing[:_SUGGESTIONS])
            raise InputError(f"{len(missing)} layer(s) are missing: {shown}", field=option)
        _require_topological(self._planned, tuple(found), option)
        return tuple(found)


def _require_topological(network: Network, order: tuple[str, ...], option: str) -> None:
    rank = {name: n for n, name in enumerate(order)}
    by_name = {layer.name: layer for layer in network.layers}
    for name in order:
        for operand in by_name[name].inputs:
            maker = network.producer.get(operand.tensor)
            if maker is not None and rank[network.layers[maker].name] > rank[name]:
                raise InputError(
                    f"no topological order: {name!r} comes before {network.layers[maker].name!r}, "
                    f"whose output {operand.tensor!r} it reads",
                    field=option,
                )


def _unknown(what: str, name: str, option: str, known: Iterable[str]) -> InputError:
    near = get_close_matches(name, dict.fromkeys(known), n=_SUGGESTIONS, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"no such {what}{hint}", field=option, found=name)
