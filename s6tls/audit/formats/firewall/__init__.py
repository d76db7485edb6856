"""What firewalls have: chains of rules, and sets of addresses."""
