"""Clients from logs, and what a rule set makes of them."""

from s6tls.audit.logs.log import Log
from s6tls.audit.logs.replay import Flip, Replay
from s6tls.audit.logs.stream import LogError

__all__ = ["Log", "Replay", "Flip", "LogError"]
