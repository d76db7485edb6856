"""The subcommands of s6-accessrules, one module each: options in, exit code out."""
