"""TLS engines, which hold sessions, and the pools of processes in which they do."""
