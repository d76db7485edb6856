"""The status of a server: what is counted, the document about it, the socket that gives that, and its other forms."""
