"""What the pages have of their own beside modules: how they look."""
