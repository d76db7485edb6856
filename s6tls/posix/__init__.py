"""What any long-lived POSIX program needs.  Nothing here knows about UCSPI."""
