"""The sweep over people: one question to a language model about the course of each person's requests.

It reads the store, writes a verdict a person, and changes nobody's standing by itself. ``summary`` makes the bounded
local summary that stands in for raw history, ``questions`` the questions, ``runner`` asks them, ``report`` tells.
"""
