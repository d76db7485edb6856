"""What servers of the web have of addresses, beside nginx's own ``allow`` and ``deny``."""
