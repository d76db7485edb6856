"""The lookup helper: an unprivileged process that parses DNS and IDENT answers and PROXY headers for the server."""
