"""The TCP side: listening, limits, the supervisor, the chain and its stages, identities."""
