"""Where charts come from: git (Bazaar and Subversion later). Revisions, trees, tags; nothing about
charts here.
"""
