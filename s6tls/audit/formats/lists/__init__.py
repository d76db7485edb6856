"""Lists of networks that all have one verdict, in the forms in which they are published."""
