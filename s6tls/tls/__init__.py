"""TLS: parameters and contexts, sessions, engines and their pools, and what programs are told about a session."""
