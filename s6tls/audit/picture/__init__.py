"""The address space as a picture."""
