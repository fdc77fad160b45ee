"""The page for creators: ask for a picture, see who looked at it, and see why when it is refused."""
