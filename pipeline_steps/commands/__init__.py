"""Commands that are not steps: the only code that may call several steps."""
