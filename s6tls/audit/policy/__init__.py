"""What must and must not be allowed, as a test of a rule set."""
