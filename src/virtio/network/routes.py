"""What is done to interfaces by rtnetlink: addresses, bridges, macvtaps. Needs pyroute2."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable
from importlib import import_module
from typing import Any

from virtio.errors import (
    NetworkBusyError,
    NetworkError,
    NetworkExtraError,
    NetworkMissingError,
    NetworkPermissionError,
)
from virtio.network.interface import Interface
from virtio.network.namespace import inside

__all__ = ["configure", "delete", "make_macvtap"]


def configure(interface: Interface, address: str | None, bridge: str | None) -> None:
    """Give an interface an address (ADDRESS/LENGTH), and make it a port of a bridge of the same namespace."""

    def act(route: Any) -> None:
        if address is not None:
            _add_address(route, interface, address)
        if bridge is not None:
            route.link("set", index=interface.index, master=_index(route, bridge, "bridge"))

    _with_routes(interface.namespace, interface.name, act)


def _add_address(route: Any, interface: Interface, address: str) -> None:
    host = ipaddress.ip_interface(address)
    try:
        route.addr("add", index=interface.index, address=str(host.ip), prefixlen=host.network.prefixlen)
    except Exception as error:  # pyroute2's own class; it is there if the address is
        if getattr(error, "code", None) != errno.EEXIST:
            raise


def make_macvtap(name: str, parent: str, mode: str, namespace: str | None, mac: str | None) -> None:
    """Make a macvtap above ``parent``, both in the namespace."""

    def act(route: Any) -> None:
        more = {"address": mac} if mac else {}
        index = _index(route, parent, "interface")
        route.link("add", ifname=name, kind="macvtap", link=index, macvtap_mode=mode, **more)

    _with_routes(namespace, f"a macvtap above {parent}", act)


def delete(interface: Interface) -> None:
    """Take an interface away."""
    _with_routes(interface.namespace, interface.name, lambda route: route.link("del", index=interface.index))


def _index(route: Any, name: str, what: str) -> int:
    found = route.link_lookup(ifname=name)
    if not found:
        raise NetworkMissingError(f"there is no {what} {name}", fix="ip link lists what there is")
    return int(found[0])


def _with_routes(namespace: str | None, subject: str, act: Callable[[Any], None]) -> None:
    pyroute2 = _pyroute2()

    def run() -> None:
        with pyroute2.IPRoute() as route:
            act(route)

    try:
        inside(namespace, run)
    except pyroute2.NetlinkError as error:
        raise _refusal(subject, error) from error


def _pyroute2() -> Any:
    try:
        return import_module("pyroute2")
    except ImportError as error:
        raise NetworkExtraError(
            "addresses, bridges and macvtaps need the package pyroute2",
            fix="pip install 'pyvirtio[tap]'",
        ) from error


def _refusal(subject: str, error: Any) -> NetworkError:
    reason = error.args[1] if len(error.args) > 1 else error
    if error.code in (errno.EPERM, errno.EACCES):
        return NetworkPermissionError(f"{subject}: {reason}")
    if error.code in (errno.EBUSY, errno.EEXIST):
        return NetworkBusyError(f"{subject}: {reason}")
    return NetworkError(f"{subject}: {reason}")
