"""The TLS side: contexts, the engine, and what is exported about a session."""
