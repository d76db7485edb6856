"""The variables in a reply to a lookup: what could be found out about a client."""

REMOTE_HOST = b"REMOTEHOST"
LOCAL_HOST = b"LOCALHOST"
REMOTE_INFO = b"REMOTEINFO"
ERROR = b"ERROR"
"""Why something could not be found out; an unknown name is no error."""

VARIABLES = (REMOTE_HOST, LOCAL_HOST, REMOTE_INFO, ERROR)
