"""The helper's own program: it imports what requests need, gives up what it can, and serves in its jail."""

from __future__ import annotations

import importlib
import os
import pickle
import socket

from s6tls.helper.request import LOOKUP, PROXY
from s6tls.helper.serving import serve
from s6tls.posix.descriptors import raise_soft_limit
from s6tls.posix.identity import Identity
from s6tls.posix.jail import Jail, Role, become
from s6tls.ucspi.log import log, use
from s6tls.ucspi.spawn import exits

_FIRST_ID = 0x70000000
"""Above what systems give out to accounts, services and containers."""
_NOBODY = 65534
_NEEDS = {
    LOOKUP: ("s6tls.helper.lookup", "s6tls.helper.resolver"),
    PROXY: ("s6tls.helper.proxyheader", "google_crc32c"),
}


def main(pickled: bytes, number: int) -> None:
    """Serve requests of some kinds from a control socket, jailed as far as a level says.

    Their modules are imported ahead: what has no rights reads no files.
    """
    with exits():
        kinds, level, form = pickle.loads(pickled)
        use(form)
        for module in (module for kind in kinds for module in _NEEDS[kind]):
            importlib.import_module(module)
        raise_soft_limit()
        if os.geteuid() == 0:
            _take_an_id_of_its_own()
        serve(socket.socket(fileno=number), Jail(Role.HELPER, level, "s6tls"))


def _take_an_id_of_its_own() -> None:
    """Run as what no account and no other process is, so that none can send signals to this one, or trace it."""
    own = _FIRST_ID + os.getpid()
    try:
        become(Identity(own, own))
    except OSError as error:
        log("s6tls", "warning", f"unable to give the lookup helper the id {own}: {error.strerror}; it runs as nobody")
        become(Identity(_NOBODY, _NOBODY))
