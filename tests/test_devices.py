"""What is set up for the device."""

import platform
import weakref

import pytest
import torch

from nlp_pipeline import ConfigError
from nlp_pipeline.devices import keep_freed_memory, leave_processes, make_accelerator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept_unless_the_user_has_settings(monkeypatch):
    assert keep_freed_memory()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert not keep_freed_memory()


def test_what_an_error_holds_is_freed_before_the_process_group_is_left():
    held = []

    def fail():
        model = torch.nn.Linear(1, 1)
        held.append(weakref.ref(model))
        raise ValueError

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        fail()
    except ValueError:
        assert held[0]() is not None
        leave_processes()
        assert held[0]() is None
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
def test_fp16_is_refused_on_a_cpu_which_would_train_in_fp32():
    with pytest.raises(ConfigError, match="fp16, which a CPU doesn't train in"):
        make_accelerator("fp16")
