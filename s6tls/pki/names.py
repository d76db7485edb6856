"""A directory with a key and a certificate for each server name: which names there are, and where their files are.

    DIR/NAME/privkey.pem and DIR/NAME/fullchain.pem     or
    DIR/NAME.pem                                        with key and chain in one file

NAME may begin with ``*.``, for any one label in this place; ``_.`` says the same, as ACME clients write it.  Other
entries are passed over.  Both kinds of entries may be symbolic links.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from s6tls.accessrules.identifiers import normalised
from s6tls.accessrules.text import shown
from s6tls.pki import Kind, Unusable
from s6tls.pki.files import LARGEST_DIRECTORY, unreadable

KEY, CHAIN = b"privkey.pem", b"fullchain.pem"
_BOTH = b".pem"
_WILDCARDS = (b"*.", b"_.")


class Named(NamedTuple):
    """The files of a server name, in lower case and with ``*`` for a label that may be any."""

    server_name: bytes
    key: bytes
    chain: bytes


def named_in(directory: bytes) -> list[Named]:
    """Return what is in a directory, in the order of the names; of two entries for one, that with two files.

    Raises Unusable.
    """
    found: dict[bytes, Named] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if (named := _named(entry)) is not None and (named.server_name not in found or entry.is_dir()):
                    found[named.server_name] = named
    except (OSError, ValueError) as error:
        raise unreadable(directory, error) from error
    if len(found) > LARGEST_DIRECTORY:
        raise Unusable(Kind.UNREADABLE, shown(directory), f"more than {LARGEST_DIRECTORY} names in it")
    return [found[name] for name in sorted(found)]


def _named(entry: os.DirEntry[bytes]) -> Named | None:
    in_two_files = entry.is_dir()
    if not (in_two_files or entry.name.endswith(_BOTH)):
        return None
    name = _server_name(entry.name if in_two_files else entry.name.removesuffix(_BOTH))
    if name is None:
        return None
    if in_two_files:
        return Named(name, os.path.join(entry.path, KEY), os.path.join(entry.path, CHAIN))
    return Named(name, entry.path, entry.path)


def _server_name(text: bytes) -> bytes | None:
    if not text.startswith(_WILDCARDS):
        return normalised(text)
    rest = normalised(text[2:])
    return None if rest is None else b"*." + rest
