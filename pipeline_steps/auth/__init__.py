"""Who may ask a registry or repository: its hosts, logins, tokens, and the references that choose
among them.
"""
