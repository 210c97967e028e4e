"""The cycle collector around a program's start."""

import gc

from nlp_pipeline.startup import hold_collector, release_collector


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
