"""UCSPI services over TLS with access rules: the s6-tlsserver family in one long-lived process."""
