"""A NetworkPolicy of Kubernetes, whose ``ipBlock`` are the clients that rules allow; it is JSON, and so YAML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from s6tls.audit.core.networks import Family, cidrs
from s6tls.audit.formats import cidrlist
from s6tls.audit.formats.entries import networks_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from s6tls.audit.core.loaded import LoadedRules

__all__ = ["write"]


def write(loaded: LoadedRules, *, families: Collection[Family] = tuple(Family)) -> str:
    """Return a policy that lets the fewest networks in that hold whom rules allow, and nobody else.  Raises Unsayable.

    It is for all pods of its namespace until somebody gives it a selector.
    """
    networks_of(loaded, says_mapped=False)
    found = [at for family in families for at in cidrs(family, cidrlist.clients(loaded, family, True))]
    blocks = [{"ipBlock": {"cidr": at}} for at in found]
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "s6-accessrules"},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": blocks}] if blocks else [],  # an empty `from` would let everybody in
        },
    }
    return json.dumps(policy, indent=2) + "\n"
