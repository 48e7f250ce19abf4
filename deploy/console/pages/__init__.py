"""One module for each page: `build(session)` builds it within the frame."""
