"""The process without rights that reads strangers' words ahead of TLS: DNS, IDENT, PROXY headers."""
