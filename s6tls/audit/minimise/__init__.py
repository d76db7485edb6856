"""The fewest rules that decide alike."""
