"""Clients from logs, and what a rule set makes of them."""
