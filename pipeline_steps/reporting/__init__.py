"""What people read: the verdict on a review, checks, differences, pages of records. Publishes
nothing.
"""
