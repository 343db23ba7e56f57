"""What people read: verdicts for reviews, rendered differences, pages of records."""
