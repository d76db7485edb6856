"""What is wrong with a rule set, or probably is."""
