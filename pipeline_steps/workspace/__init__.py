"""A checkout or one of its revisions: its charts, their content, what its tags stand for."""
