"""The images endpoint: what the ``openai`` package speaks, with Safelight's guard behind it."""
