"""What CI systems say about the build a process runs in. Reporting to them does not belong here."""
