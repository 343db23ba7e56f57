"""Stores of the records of all builds, found by what they are about, and which of them a step
trusts.
"""
