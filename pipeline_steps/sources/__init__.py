"""Version control systems: git, Bazaar, Subversion. Revisions, trees, tags; nothing about
charts.
"""
