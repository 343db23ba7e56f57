"""Records of what steps did, in files that merge by union. No network here, and nothing about what
a step does.
"""
