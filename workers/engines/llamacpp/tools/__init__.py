"""Tools for models without a template for them: told in the prompt, read from the text."""
