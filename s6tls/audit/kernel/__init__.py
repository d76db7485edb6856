"""What rules deny by address, as a table of nftables: the kernel drops it, and it costs no process at all."""

from s6tls.audit.kernel.denied import Denied, denied
from s6tls.audit.kernel.state import NotOurs, State, parse
from s6tls.audit.kernel.table import Table, Update, update

__all__ = ["denied", "Denied", "Table", "update", "Update", "State", "parse", "NotOurs"]
