"""UCSPI services over TLS with access rules: the s6-tlsserver family in one long-lived process."""

__all__ = ["__version__"]

__version__ = "0.2.0"
