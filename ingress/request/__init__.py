"""What a request brings with it: pictures, recordings, forms, and what it links to."""
