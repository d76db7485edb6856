"""What all tests share.

Hypothesis never fails a test for being slow, since machines may be busy.  A shell ignores SIGINT in what it starts in
the background, nohup ignores SIGHUP, and that is inherited; programs that are tested get them as from a terminal.
"""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
