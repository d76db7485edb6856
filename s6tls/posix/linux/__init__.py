"""What Linux can do to confine a process, and Python's library has no function for: one module for each mechanism."""
