"""Tools on models whose chat template knows none: told in the prompt, read out of the text."""
