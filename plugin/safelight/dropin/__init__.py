"""The parts of door 1: how a call of a guarded diffusers pipeline is read, run beside its judge, and answered."""
