"""The super-server: listening, limits, the image of a connection, starting programs, log lines."""
