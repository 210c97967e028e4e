"""What fuzzing is made of: bytes with faults in them, and the one question that is asked of their reader."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from nlp_pipeline import NlpPipelineError

EXIT_CODES = (2, 4)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes, fragments: tuple[bytes, ...] = (), most: int = 4) -> bytes:
    """A valid file with up to `most` faults: flipped bits, parts cut out, doubled or moved, other bytes put in."""
    content = bytearray(valid)
    bits = st.binary(min_size=1, max_size=8)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        end = min(len(content), at + draw(st.integers(1, 40)))
        match draw(st.sampled_from(["flip", "cut", "end", "double", "insert", "replace"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at:end]
            case "end":
                del content[at:]
            case "double":
                content[at:at] = content[at:end] * draw(st.integers(1, 3))
            case "insert":
                content[at:at] = draw(st.one_of(bits, st.sampled_from(fragments)) if fragments else bits)
            case "replace":
                content[at:end] = draw(st.one_of(bits, st.sampled_from(fragments)) if fragments else bits)
    return bytes(content)


def own_error_or_fine(read: Callable[[], Any]) -> Any:
    """What `read` gives, or its NlpPipelineError; every other exception passes through and fails the test."""
    try:
        return read()
    except NlpPipelineError as caught:
        error = caught
    assert error.exit_code in EXIT_CODES
    assert error.problems
    str(error).encode()  # what can't be written can't be shown either
    return error
