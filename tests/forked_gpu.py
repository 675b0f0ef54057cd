"""What `spaces.GPU` does to a generator on a ZeroGPU Space, on a machine without a GPU.

A fork for every call; arguments and what is yielded cross as pickles; closing the generator is
noticed there when the next value is ready.
"""

import functools
import multiprocessing
import pickle

FORK = multiprocessing.get_context("fork")


def gpu(*, duration):
    assert duration > 0
    return lambda task: functools.partial(_iterate, task)


def _iterate(task, *args):
    answers, stop = FORK.SimpleQueue(), FORK.Event()
    process = FORK.Process(target=_work, args=(task, pickle.dumps(args), answers, stop))
    process.start()
    try:
        while (answer := answers.get()) is not None:
            yield pickle.loads(answer)
    finally:
        stop.set()
        process.join(60)


def _work(task, args, answers, stop):
    values = task(*pickle.loads(args))
    for value in values:
        if stop.is_set():
            values.close()
            break
        answers.put(pickle.dumps(value))
    answers.put(None)
