"""What import consists of: which lists it reads and how, and what must hold before rules are written."""
