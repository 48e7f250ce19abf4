"""One module per OpenAI resource: parse, make a job, dispatch, respond."""
