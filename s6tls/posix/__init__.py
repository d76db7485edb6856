"""What any long-lived POSIX program needs, and what knows nothing of UCSPI."""
