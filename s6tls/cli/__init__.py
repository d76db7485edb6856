"""One small module per command: options in, exit code out."""
