"""One page of HTML about a rule set."""
