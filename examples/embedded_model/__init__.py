"""How the embedded model was made: its pictures, its captions, its training and its figures."""
