"""What all audits stand on: a rule set in memory, its networks, and who decides where."""
