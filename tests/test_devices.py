import pytest
import torch

from pipelines import devices
from pipelines.errors import InputError

ICE_LAKE = frozenset({"avx512f", "avx512_vnni", "avx512bw"})
SAPPHIRE_RAPIDS = ICE_LAKE | {"avx512_bf16", "amx_bf16", "amx_tile"}


@pytest.mark.parametrize(
    ("device", "capability", "flags", "dtype"),
    [
        ("cpu", None, frozenset(), "float32"),
        ("cpu", None, ICE_LAKE, "float32"),
        ("cpu", None, SAPPHIRE_RAPIDS, "bfloat16"),
        ("cpu", None, frozenset({"amx_bf16"}), "bfloat16"),
        ("cuda", (7, 5), SAPPHIRE_RAPIDS, "float16"),  # Turing claims bf16 and emulates it
        ("cuda", (8, 0), frozenset(), "bfloat16"),
        ("cuda", (9, 0), frozenset(), "bfloat16"),
        ("cuda", (12, 0), frozenset(), "bfloat16"),
        ("cuda", None, frozenset(), "float16"),
        ("mps", None, frozenset(), "float32"),
    ],
)
def test_dtype_of_each_machine(device, capability, flags, dtype):
    assert devices.choose_dtype(device, capability, flags) == dtype


@pytest.mark.parametrize(
    ("requested", "cuda", "mps", "chosen"),
    [
        ("", True, False, "cuda"),
        ("", False, True, "mps"),
        ("", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("mps", True, True, "mps"),
    ],
)
def test_device_of_each_machine(requested, cuda, mps, chosen):
    assert devices.choose_device(requested, cuda=cuda, mps=mps) == chosen


@pytest.mark.parametrize("requested", ["cuda", "mps", "tpu", "CPU"])
def test_absent_devices_get_a_sentence(requested):
    with pytest.raises(InputError, match=r"SEMEDIT_DEVICE must be a device of this machine: cpu\."):
        devices.choose_device(requested, cuda=False, mps=False)


def test_cpu_flags_are_read_from_cpuinfo():
    cpuinfo = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\nbugs\t: none\n\nprocessor : 1\n"
    assert devices.parse_cpu_flags(cpuinfo) == {"fpu", "avx512f", "avx512_bf16"}
    assert devices.parse_cpu_flags("Features : fp asimd\n") == frozenset()
    assert devices.parse_cpu_flags("") == frozenset()


def test_overrides_win():
    device = devices.pick({"SEMEDIT_DEVICE": "cpu", "SEMEDIT_DTYPE": "bfloat16"})
    assert device == devices.Device("cpu", torch.device("cpu"), torch.bfloat16)
    with pytest.raises(InputError, match="SEMEDIT_DTYPE must be one of: float32, bfloat16"):
        devices.pick({"SEMEDIT_DTYPE": "int8"})


def test_the_pick_computes_here():
    device = devices.pick({})
    ones = torch.ones(4, 4, device=device.torch_device, dtype=device.dtype)
    assert (ones @ ones).sum().item() == 64


def test_torch_allocator_failure_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert devices.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_out_of_memory_by_class_or_words(error, expected):
    assert devices.is_out_of_memory(error) is expected


def test_release_memory_collects_cycles():
    import weakref

    class Node:
        pass

    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    del node
    devices.release_memory()
    assert gone() is None
