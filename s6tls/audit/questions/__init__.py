"""Questions that are put to rule sets: who gets in and why, what changed, how much is covered."""
