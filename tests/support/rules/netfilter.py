"""Asks the kernel what it does with clients: run in a network namespace of its own, it loads rules and connects.

Standard input is JSON, a list of ``[words of a command, its input, clients]``; standard output, for each, what became
of the clients: true if a connection was made.  The loopback interface delivers a packet before `connect` returns.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys

_SERVERS = {socket.AF_INET: "10.255.255.1", socket.AF_INET6: "fd00::1"}


def main() -> None:
    """Answer all questions."""
    questions = json.load(sys.stdin)
    clients = {client for _, _, some in questions for client in some}
    addresses = sorted({*_SERVERS.values(), *clients})
    commands = ["link set lo up", *(f"address add {one} dev lo{' nodad' if ':' in one else ''}" for one in addresses)]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
    listeners = {family: socket.create_server((server, 0), family=family) for family, server in _SERVERS.items()}
    answers = []
    for words, text, some in questions:
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        subprocess.run(words, input=text, text=True, check=True)
        answers.append([_is_let_in(client, listeners) for client in some])
    json.dump(answers, sys.stdout)


def _is_let_in(client: str, listeners: dict[socket.AddressFamily, socket.socket]) -> bool:
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    with socket.socket(family) as connection:
        connection.bind((client, 0))
        connection.setblocking(False)
        connection.connect_ex(listeners[family].getsockname())
        _, made, _ = select.select([], [connection], [], 0)
        return bool(made) and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


if __name__ == "__main__":
    main()
