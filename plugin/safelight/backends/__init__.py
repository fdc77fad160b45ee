"""How a model is run: in this process, or over HTTP."""
