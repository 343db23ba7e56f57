"""Version control systems: git (Bazaar and Subversion later). Revisions, trees, tags; nothing about
charts.
"""
