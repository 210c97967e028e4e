"""The cycle collector around a program's start."""

import gc
import weakref

from nlp_pipeline.startup import collect_all, hold_collector, release_collector


def test_the_collector_is_back_after_the_start_and_left_alone_where_it_was_off():
    try:
        hold_collector()
        assert not gc.isenabled()
        release_collector()
        assert gc.isenabled()
        gc.disable()  # by the user: nobody turns it on behind their back
        hold_collector()
        release_collector()
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_collect_all_frees_what_the_start_had_set_aside():
    class Cycle:
        pass

    thing = Cycle()
    thing.itself = thing
    alive = weakref.ref(thing)
    try:
        gc.freeze()
        del thing
        gc.collect()
        assert alive() is not None
        collect_all()
        assert alive() is None
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
