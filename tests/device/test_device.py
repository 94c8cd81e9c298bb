"""The base class, the declarations and what is public."""

import subprocess
import sys
import textwrap

import pytest

import virtio
from virtio import device as package
from virtio.device import Attachment, Device, HandlerWorker, Queue
from virtio.errors import UsageError
from virtio.virtqueue import DeviceQueue


class Three(Device):
    device_id = 42
    queues = (Queue("control"), Queue("request", count=2, size=128))

    def control(self, request):
        pass

    def request(self, request):
        pass


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "arguments",
    [{"name": "a b"}, {"name": "q", "size": 0}, {"name": "q", "size": 32769}, {"name": "q", "count": 0}],
)
def test_queues_that_cannot_be(arguments):
    with pytest.raises(UsageError):
        Queue(**arguments)


def test_queue_arrays_are_laid_out_one_by_one():
    device = Three()
    assert [device.queue_at(i).name for i in range(3)] == ["control", "request", "request"]
    with pytest.raises(UsageError):
        device.queue_at(3)
    attachment = Attachment(device)
    assert [(v.index, v.name, v.max_size) for v in attachment.vrings] == [
        (0, "control", 256),
        (1, "request[1]", 128),
        (2, "request[2]", 128),
    ]
    attachment.close()


def test_a_device_need_not_call_its_base():
    class Own(Device):
        device_id = 42

        def __init__(self, *, flavour):
            self.flavour = flavour

    attachment = Attachment(Own(flavour="lime"))
    assert len(attachment.vrings) == 0
    attachment.close()


def test_an_engine_of_its_own_needs_no_methods(guest):
    made = []

    class Engine(Device):
        device_id = 42
        queues = (Queue("requestq"),)

        def make_worker(self, index, queue):
            assert isinstance(queue, DeviceQueue)
            made.append(index)
            return HandlerWorker(queue, lambda request: request.write(b"engine"), self.failed)

    assert guest(Engine()).ring().set_up().ask(b"", 8) == b"engine"
    assert made == [0]


def test_a_coroutine_device_frees_its_loop_when_it_is_forgotten():
    assert run_python(
        """
        import gc, threading
        from virtio.device import Device, Queue
        class Later(Device):
            device_id = 42
            queues = (Queue("requests"),)
            async def requests(self, request): ...
        device = Later()
        device._loop_thread().start()
        print(threading.active_count())
        del device
        gc.collect()
        print(threading.active_count())
        """
    ).split() == ["2", "1"]


def test_public_names_are_the_intended_ones():
    assert (
        set(virtio.__all__)
        == set(dir(virtio))
        == {
            "ConfigSpace",
            "Device",
            "Queue",
            "Request",
            "VirtioError",
            "__version__",
            "device",
            "devices",
            "drivers",
            "errors",
            "memory",
            "serve",
            "serving",
            "spec",
            "storage",
            "testing",
            "vhost_user",
            "virtqueue",
            "vm",
        }
    )
    assert set(package.__all__) == {
        "RING_FEATURES",
        "Attachment",
        "ConfigSpace",
        "Device",
        "HandlerWorker",
        "Queue",
        "QueueWorker",
        "Request",
        "Vring",
    }


def test_every_public_name_is_there():
    code = "import virtio; print([n for n in virtio.__all__ if getattr(virtio, n) is not getattr(virtio, n)])"
    assert run_python(code).strip() == "[]"


def test_there_is_nothing_else():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        virtio.nothing  # noqa: B018


def test_the_import_loads_nothing_and_is_quick():
    code = """
        import sys, time
        start = time.process_time()
        import virtio
        print(time.process_time() - start)
        print(*[name for name in sys.modules if name.startswith("virtio") or name == "typing"])
        """
    seconds = []
    for _ in range(5):
        taken, modules = run_python(code).splitlines()
        seconds.append(float(taken))
        assert modules == "virtio"
    assert min(seconds) < 0.015


def test_devices_do_not_need_asyncio():
    assert run_python("import sys, virtio.device; print('asyncio' in sys.modules)").strip() == "False"
