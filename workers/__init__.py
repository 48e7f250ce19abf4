"""The pull side: takes jobs for free slots only, runs them on an engine, streams frames back."""
