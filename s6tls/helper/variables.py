"""What an inquiry about a client can find: the names that it has in a reply."""

REMOTE_HOST = b"REMOTEHOST"
LOCAL_HOST = b"LOCALHOST"
REMOTE_INFO = b"REMOTEINFO"
ERROR = b"ERROR"
"""Why something could not be found out; that a name is not known is no error."""

FINDINGS = (REMOTE_HOST, LOCAL_HOST, REMOTE_INFO, ERROR)
