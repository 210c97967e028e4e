"""What makes a program start sooner."""

import gc

_held = False


def hold_collector() -> None:
    """Turn Python's cycle collector off until `release_collector`: for a program's start, not for a library's.

    Importing torch and transformers makes a million objects that stay. The collector, which runs after every few
    hundred new ones, walks over them again and again: a fifth of the time that a start takes.
    """
    global _held
    if gc.isenabled():
        _held = True
        gc.disable()


def release_collector() -> None:
    """Turn it on again, if it was held; what has been made so far it need not look at any more."""
    global _held
    if _held:
        _held = False
        gc.freeze()
        gc.enable()


def collect_all() -> None:
    """A full collection, of what was made during the start too: models hold on to themselves through their hooks."""
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()
